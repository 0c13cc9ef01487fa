"""The run directory: configuration, metrics and results, written once and read back.

config.json      the arguments of the run
metrics.jsonl    one line for each recorded step and member; the same run gives the same bytes
times.jsonl      wall-clock times, kept apart for that reason
NAME.csv         a table: the numbers behind figure NAME
NAME.png, .svg   figures
summary.json     results
"""

import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory. Make a new one with `create`; `Run(path)` reads an old one.

    Every write replaces a file as a whole or appends whole lines, so a run that is stopped keeps
    all it had written.
    """

    path: Path

    @classmethod
    def create(cls, path: str | Path, config: Any, *, overwrite: bool = False) -> "Run":
        """Make the directory and write `config`, a dataclass, to config.json.

        Raises:
            FileExistsError: there is a run already and `overwrite` is false; or `path` is a file.
                With `overwrite` only files that a run writes are removed.
        """
        run = cls(Path(path))
        if run.path.exists() and not run.path.is_dir():
            raise FileExistsError(f"{path} is a file; give a directory")
        if (run.path / "config.json").exists():
            if not overwrite:
                raise FileExistsError(f"{path} already holds a run; give another directory")
            for old in ("*.json", "*.jsonl", "*.csv", "*.png", "*.svg"):
                for file in run.path.glob(old):
                    file.unlink()
        run.path.mkdir(parents=True, exist_ok=True)
        run.write_json("config.json", dataclasses.asdict(config))
        return run

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to a file as JSON; arrays and tuples become lists."""
        text = json.dumps(value, indent=2, default=_plain)
        self._replace(name, text + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            FileNotFoundError: the directory holds no such file.
        """
        return json.loads((self.path / name).read_text())

    def append_metrics(
        self,
        labels: Mapping[str, Any],
        seeds: Sequence[int],
        chunk: Any,
        *,
        every: int = 1,
    ) -> None:
        """Append a chunk of training to metrics.jsonl, one line for each recorded step and seed.

        Args:
            labels: what all lines have in common, such as the cell.
            seeds: of the S members.
            chunk: has `first_step`, counted from 1, and `metrics`, name -> `[steps, S]`.
            every: record the steps that are multiples of it.
        """
        steps = range(chunk.first_step, chunk.first_step + len(next(iter(chunk.metrics.values()))))
        self.append(
            "metrics.jsonl",
            [
                {**labels, "seed": seed, "step": step}
                | {name: values[i, s] for name, values in chunk.metrics.items()}
                for i, step in enumerate(steps)
                if step % every == 0
                for s, seed in enumerate(seeds)
            ],
        )

    def append_time(self, **values: Any) -> None:
        """Append a line to times.jsonl, with the seconds since 1970 added."""
        self.append("times.jsonl", [{**values, "time": time.time()}])

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a JSON-lines file."""
        with open(self.path / name, "a") as file:
            file.write("".join(json.dumps(row, default=_plain) + "\n" for row in rows))

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Read a JSON-lines file of the run."""
        return [json.loads(line) for line in (self.path / name).read_text().splitlines()]

    def write_table(self, name: str, parts: Sequence[Mapping[str, Any]]) -> None:
        """Write parts of a table, one below the other, to NAME.csv.

        A part maps column names to columns of equal length, or to one value for all its rows.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(parts[0])
        for part in parts:
            columns = np.broadcast_arrays(*(np.asarray(part[key]) for key in parts[0]))
            writer.writerows(zip(*(np.atleast_1d(c).tolist() for c in columns), strict=True))
        self._replace(f"{name}.csv", text.getvalue())

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        """Read NAME.csv as columns, numbers where all entries are numbers."""
        with open(self.path / f"{name}.csv", newline="") as file:
            header, *rows = csv.reader(file)
        return {
            key: _column(values)
            for key, values in zip(header, zip(*rows, strict=True), strict=True)
        }

    def save_figure(self, name: str, figure: Any) -> None:
        """Save a matplotlib figure as NAME.png and NAME.svg."""
        import matplotlib

        with matplotlib.rc_context({"svg.hashsalt": "rnnjax"}):  # the same figure, the same bytes
            figure.savefig(self.path / f"{name}.svg", metadata={"Date": None})
        figure.savefig(self.path / f"{name}.png", dpi=150)

    def _replace(self, name, text):
        unfinished = self.path / f".{name}.unfinished"
        unfinished.write_text(text)
        unfinished.replace(self.path / name)


def _column(values):
    try:
        return np.array([float(v) for v in values])
    except ValueError:
        return np.array(values)


def _plain(value):
    """Return a NumPy value as Python's; a float32 as the shortest number that reads back as it."""
    if isinstance(value, Path):
        return str(value)
    if not hasattr(value, "dtype"):
        return value
    value = np.asarray(value)
    if value.ndim:
        return [_plain(v) for v in value]
    number = value.item()
    return float(str(value)) if isinstance(number, float) and math.isfinite(number) else number
