"""What came out of a row, as it is kept beside the card."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rnnjax.runs.atomic_files import replace_file


@dataclasses.dataclass(frozen=True)
class Record:
    """The outcome of a run of a row, and what it ran with."""

    id: str
    full: bool
    outcome: str  # of the verdict; or "stopped at its limit", "failed", "runs elsewhere"
    conditions: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    reason: str = ""  # why the verdict is none, or the last line that a failed run printed
    command: str = ""
    seeds: str = ""  # "0 to 3"
    seconds: float = 0.0  # of wall-clock time, over all processes that worked on the run
    commit: str = ""
    versions: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run has a verdict."""
        return bool(self.conditions) or self.outcome in ("inconclusive", "quick run only")

    def supersedes(self, other: "Record | None") -> bool:
        """Return whether the card shows this record rather than another of the same row.

        A verdict of a full run is not given up for a quick run, or for a run without a verdict.
        """
        if other is None or not other.finished:
            return True
        return self.finished and (self.full or not other.full)


def load_record(path: Path) -> Record | None:
    """Return the record in a JSON file, or None if there is none that can be read."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        return Record(**values)
    except (OSError, ValueError, TypeError):
        return None


def load_records(folder: Path, ids: Iterable[str]) -> dict[str, Record]:
    """Return the records FOLDER/ID.json that there are, by id."""
    found = {name: load_record(folder / f"{name}.json") for name in ids}
    return {name: record for name, record in found.items() if record is not None}


def save_record(path: Path, record: Record) -> None:
    """Write a record to a JSON file, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(dataclasses.asdict(record), indent=2) + "\n")
