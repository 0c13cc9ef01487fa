"""The card: one line for each row, then what each row claims and what came out."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from rnnjax.runs.atomic_files import replace_file
from rnnjax.scorecard.records import Record, load_record, load_records, save_record
from rnnjax.scorecard.rows import Row

HEADER = """# Scorecard

Published results on long-term dependencies, run again by `python experiments/scorecard.py`, which
wrote this page. `--only ID` runs one row again, `--full` runs rows as published. A quick run says
so, and its conditions are not a verdict.

| row | source | published | verdict | conditions | seeds | time | commit |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def line(row: Row, record: Record | None) -> list[str]:
    """Return the cells of a row: id, verdict, conditions that hold, minutes, and the reason."""
    if record is None:
        return [row.id, "not run", "", "", ""]
    return [
        row.id,
        record.outcome,
        _count(record),
        _time(record.seconds),
        "" if record.finished else record.reason,
    ]


def listing(rows: Mapping[str, Row], records: Mapping[str, Record]) -> str:
    """Return what each row asks, its time limits and its last verdict, a few lines a row."""
    parts = []
    for name, row in rows.items():
        record = records.get(name)
        last = "not run" if record is None else f"{record.outcome}, {_time(record.seconds)}"
        quick, full = row.minutes
        limits = (
            f"at most {full:g} min"
            if not row.quick
            else f"at most {quick:g} min, full {full:g} min"
        )
        parts.append(f"{name}  ({row.source}; {limits})\n    {row.question}\n    last: {last}")
    return "\n".join(parts)


def write_card(
    folder: Path, rows: Mapping[str, Row], new: Iterable[Record], figures: Mapping[str, Path]
) -> None:
    """Bring FOLDER/scorecard.md up to date, with records and figures in FOLDER/scorecard.

    Args:
        rows: all rows of the card, in order.
        new: records of this run. One that does not supersede the record that is there is left out.
        figures: a PNG file for each of the new records that has one, by id.
    """
    kept = folder / "scorecard"
    for record in new:
        if record.supersedes(load_record(kept / f"{record.id}.json")):
            save_record(kept / f"{record.id}.json", record)
            if record.id in figures:
                shutil.copyfile(figures[record.id], kept / f"{record.id}.png")
    written = None
    while written != (known := load_records(kept, rows)):  # other processes may save theirs
        replace_file(folder / "scorecard.md", _card(kept, rows, known))
        written = known


def _card(kept, rows, known):
    table = "".join(_table_line(row, known.get(name)) for name, row in rows.items())
    sections = "\n".join(
        _section(row, known[name], (kept / f"{name}.png").exists())
        for name, row in rows.items()
        if name in known
    )
    return f"{HEADER}{table}\n{sections}"


def _table_line(row, record):
    verdict, seeds, took, commit = "not run", "", "", ""
    name, conditions = row.id, ""
    if record is not None:
        name = f"[{row.id}](#{row.id})"
        verdict, conditions, seeds = record.outcome, _count(record), record.seeds
        took, commit = _time(record.seconds), record.commit
    cells = name, row.source, row.published, verdict, conditions, seeds, took, commit
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |\n"


def _section(row, record, has_figure):
    lines = [f"## {row.id}", "", row.question, "", row.claim, "", row.rule, ""]
    lines += [f"`{record.command}`: **{record.outcome}**"]
    lines[-1] += f" ({record.reason})." if record.reason else "."
    lines += [f"{record.versions}; commit {record.commit or 'unknown'}.", ""]
    lines += [f"- {'yes' if holds else 'NO'}: {name}" for name, holds in record.conditions.items()]
    if has_figure:
        lines += ["", f"![{row.question}](scorecard/{row.id}.png)"]
    return "\n".join(lines) + "\n"


def _count(record):
    if not record.conditions:
        return ""
    return f"{sum(record.conditions.values())} of {len(record.conditions)}"


def _time(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _escaped(text):
    return text.replace("|", "\\|")
