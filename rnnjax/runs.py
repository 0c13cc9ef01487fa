"""The run directory: configuration, metrics and results, written once and read back.

config.json      the arguments of the run
metrics.jsonl    one line for each recorded step and member; the same run gives the same bytes
times.jsonl      wall-clock times, kept apart for that reason
NAME.csv         a table: the numbers behind figure NAME
NAME.png, .svg   figures
summary.json     results
.rnnjax          the names of all these: what may be removed when the run is overwritten

A float32 is written as the shortest decimal that reads back as the same float32. Numbers that are
not finite are NaN, Infinity and -Infinity in JSON, as Python writes and reads them (JSON itself has
none, so other readers may refuse), and nan, inf and -inf in tables.
"""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAMES = "config.json", "metrics.jsonl", "times.jsonl", "summary.json"
WRITTEN, REPLACED = ".rnnjax", ".replaced"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory. Make a new one with `create`; `Run(path)` reads an old one.

    Every write replaces a file as a whole or appends whole lines, so a run that is stopped keeps
    all it had written.
    """

    path: Path
    elsewhere: Path | None = None
    """In all processes but the first of a program: where files go that others write. What the run
    itself writes is dropped there."""

    @classmethod
    def create(cls, path: str | Path, config: Any, *, overwrite: bool = False) -> "Run":
        """Make the directory and write `config`, a dataclass, to config.json.

        With `overwrite` the files of a run that is there already, and no others, make way: they are
        kept in the folder .replaced until the new run is finished, and return if it withdraws.

        Raises:
            FileExistsError: `path` is a file; or holds a run, and `overwrite` is false; or holds
                one of the files above from elsewhere. Nothing has been touched then.
            OSError: the directory cannot be made or written to; the message says why.
        """
        run = cls(Path(path))
        text = _json(dataclasses.asdict(config), indent=2)
        try:
            run._make_way(overwrite)
            run.path.mkdir(parents=True, exist_ok=True)
            run._replace("config.json", text)
        except FileExistsError:
            raise
        except OSError as error:
            raise type(error)(f"cannot write to {path}: {error.strerror}") from error
        return run

    def withdraw(self) -> None:
        """Remove a run that wrote only config.json, and its directory if nothing else is there.

        A run that it was to replace is put back.
        """
        if self.elsewhere is None and self._written() == ["config.json"]:
            for name in ("config.json", WRITTEN):
                (self.path / name).unlink()
            if self._replaced.exists():
                for file in self._replaced.iterdir():
                    file.rename(self.path / file.name)
                self._replaced.rmdir()
            with contextlib.suppress(OSError):  # it holds something else
                self.path.rmdir()

    def finish(self) -> None:
        """Remove what is left of a run that this one replaces."""
        if self._replaced.exists():
            shutil.rmtree(self._replaced)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to a file as JSON; arrays and tuples become lists, paths strings."""
        self._replace(name, _json(value, indent=2))

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            FileNotFoundError: the directory holds no such file.
        """
        return json.loads((self.path / name).read_bytes())

    def append_metrics(
        self,
        labels: Mapping[str, Any],
        seeds: Sequence[Any],
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
        rows, names = [], list(chunk.metrics)
        for step, values in enumerate(zip(*chunk.metrics.values(), strict=True), chunk.first_step):
            if step % every == 0:
                rows += [
                    {**labels, "seed": seed, "step": step, **dict(zip(names, own, strict=True))}
                    for seed, *own in zip(seeds, *values, strict=True)
                ]
        self.append("metrics.jsonl", rows)

    def append_time(self, **values: Any) -> None:
        """Append a line to times.jsonl, with the seconds since 1970 added."""
        self.append("times.jsonl", [{**values, "time": time.time()}])

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a JSON-lines file."""
        text = "".join(_json(row) for row in rows)
        self._record(name)
        self._append(name, text)

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Read a JSON-lines file of the run, less a last line that was cut off."""
        return [json.loads(line) for line in (self.path / name).read_bytes().split(b"\n")[:-1]]

    def write_table(self, name: str, parts: Sequence[Mapping[str, Any]]) -> None:
        """Write parts of a table, one below the other, to NAME.csv.

        A part maps column names to columns of equal length, or to one value for all its rows.

        Raises:
            ValueError: there are no columns, or the parts have different ones.
        """
        header = list(parts[0]) if parts else []
        if not header:
            raise ValueError(f"table {name} needs columns")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for part in parts:
            if part.keys() != set(header):
                raise ValueError(f"table {name}: all parts need columns {header}, got {[*part]}")
            columns = np.broadcast_arrays(*(np.atleast_1d(part[key]) for key in header))
            writer.writerows(zip(*map(_plain, columns), strict=True))
        self._replace(f"{name}.csv", text.getvalue())

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        """Read NAME.csv as columns: float64 where all entries are numbers, else strings."""
        with open(self.path / f"{name}.csv", newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        columns = zip(*rows, strict=True) if rows else [()] * len(header)
        return {key: _column(values) for key, values in zip(header, columns, strict=True)}

    def file(self, name: str) -> Path:
        """Return the path of a file or directory that others write, and note that it is the run's.

        For what libraries write themselves: audio, music, checkpoints.
        """
        self._record(name)
        return (self.elsewhere or self.path) / name

    def save_figure(self, name: str, figure: Any) -> None:
        """Save a matplotlib figure as NAME.png and NAME.svg; the same figure, the same bytes."""
        import matplotlib

        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # which would shift things a little at every drawing
        options: dict[str, Any] = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
        for form in options:
            image = io.BytesIO()
            with matplotlib.rc_context({"svg.hashsalt": "rnnjax"}):
                figure.savefig(image, format=form, **options[form])
            self._replace(f"{name}.{form}", image.getvalue())

    def _make_way(self, overwrite):
        """Remove the run that is here, if it may be; touch nothing if it or a file may not."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; give a directory")
        written = self._written()
        if written and not overwrite:
            raise FileExistsError(f"{self.path} already holds a run; give another directory")
        for name in NAMES:
            if name not in written and (self.path / name).exists():
                raise FileExistsError(
                    f"{self.path} holds a {name} that no run wrote; give another directory"
                )
        self.finish()
        for name in written:
            self._unfinished(name).unlink(missing_ok=True)
            if (self.path / name).exists():
                self._replaced.mkdir(exist_ok=True)
                (self.path / name).rename(self._replaced / name)
        if self._replaced.exists():
            (self.path / WRITTEN).rename(self._replaced / WRITTEN)
        (self.path / WRITTEN).unlink(missing_ok=True)

    @property
    def _replaced(self):
        return self.path / REPLACED

    def _written(self):
        file = self.path / WRITTEN
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def _record(self, name):
        """Note that the file belongs to the run, before it does."""
        if self.elsewhere is None and name not in self._written():
            self._append(WRITTEN, f"{name}\n")

    def _replace(self, name, content):
        """Write a file as a whole: until it is finished the old one stays."""
        if self.elsewhere is not None:
            return
        self._record(name)
        unfinished = self._unfinished(name)
        try:
            unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
            unfinished.replace(self.path / name)
        finally:
            unfinished.unlink(missing_ok=True)

    def _unfinished(self, name):
        return self.path / f".{name}.unfinished"

    def _append(self, name, lines):
        """Append whole lines in one write."""
        if self.elsewhere is not None:
            return
        data = lines.encode()
        with open(self.path / name, "ab", buffering=0) as file:
            while data:
                data = data[file.write(data) :]


def _json(value, **options):
    return json.dumps(value, default=_plain, **options) + "\n"


def _column(values):
    try:
        return np.array([float(v) for v in values])
    except ValueError:
        return np.array(values)


def _plain(value):
    """Return what JSON does not know as what it does: paths, NumPy's and JAX's numbers, arrays."""
    if isinstance(value, Path):
        return str(value)
    if not hasattr(value, "dtype"):
        raise TypeError(f"cannot write {value!r} ({type(value).__name__}) to a run")
    value = np.asarray(value)
    if value.dtype == np.float32:
        value = value.astype(str).astype(np.float64)
    return value.tolist()
