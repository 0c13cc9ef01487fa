"""The scorecard: published results, run again one after another, with their verdicts."""

from rnnjax.scorecard.card import line, listing, write_card
from rnnjax.scorecard.records import Record, load_record, load_records, save_record
from rnnjax.scorecard.rows import Row, load_rows
from rnnjax.scorecard.running import run_row

__all__ = [
    "Record",
    "Row",
    "line",
    "listing",
    "load_record",
    "load_records",
    "load_rows",
    "run_row",
    "save_record",
    "write_card",
]
