"""The run directory: configuration, metrics and results, written once and read back.

config.json      the arguments of the run
metrics.jsonl    one line for each recorded step and member; the same run gives the same bytes
times.jsonl      wall-clock times, kept apart for that reason
NAME.csv         a table: the numbers behind figure NAME
NAME.png, .svg   figures
stopped.jsonl    one line for each member that stopped because a metric was not finite
stopped/         the last good state of each
training/        checkpoints
.history         what a run that was stopped needs to go on; gone when it is finished
summary.json     results
.finished        that there is nothing left to do
.rnnjax          the names of all these: what may be removed when the run is overwritten
.lock            held by the process that writes here

A float32 is written as the shortest decimal that reads back as the same float32. Numbers that are
not finite are NaN, Infinity and -Infinity in JSON, as Python writes and reads them (JSON itself has
none, so other readers may refuse), and nan, inf and -inf in tables.
"""

import contextlib
import csv
import dataclasses
import fcntl
import io
import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAMES = "config.json", "metrics.jsonl", "times.jsonl", "summary.json"
WRITTEN, REPLACED, LOCK, FINISHED = ".rnnjax", ".replaced", ".lock", ".finished"


class LockedError(Exception):
    """Another process writes to the run directory; the message says which."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing to a run directory, which is made if need be.

    The lock ends with the process that holds it, however that ends.

    Raises:
        LockedError: another process has it.
        FileExistsError: `path` is a file.
        OSError: the directory cannot be made or written to; the message says why.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; give a directory")
    with _explained(path):
        file = _lock(path / LOCK)
    try:
        with _explained(path):
            file.write(f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        (path / LOCK).unlink(missing_ok=True)  # while it is held: a new one is another file
        file.close()
        with contextlib.suppress(OSError):  # it holds something
            path.rmdir()


def _lock(path):
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "ab", buffering=0)  # noqa: SIM115
        except FileNotFoundError:  # the directory was removed, by a process that withdrew its run
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                file.truncate(0)
                return file
        except BlockingIOError:
            file.close()
            holder = path.read_text(encoding="utf-8").strip() if path.exists() else ""
            raise LockedError(
                f"{path.parent} is being written to by process {holder or 'unknown'}; wait until "
                "it has finished, or give another directory"
            ) from None
        except FileNotFoundError:  # it was removed between two of our questions
            pass
        file.close()


@contextlib.contextmanager
def _explained(path):
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # it is explained already
            raise
        raise type(error)(f"cannot write to {path}: {error.strerror}") from error


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory. Make a new one with `create`; `Run(path)` reads an old one.

    Every write replaces a file as a whole or appends whole lines, so a run that is stopped keeps
    all it had written.
    """

    path: Path
    resuming: bool = False
    """Whether what is appended may be there already, from an earlier process that was stopped: the
    same lines then stay, others are replaced."""
    scratch: Path | None = None
    """In all processes but the first of a program: where files go that others write. What the run
    itself would write is dropped there."""
    _ends: dict[str, int] = dataclasses.field(default_factory=dict, compare=False, repr=False)

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
        with _explained(path):
            run._make_way(overwrite)
            run.path.mkdir(parents=True, exist_ok=True)
            run._replace("config.json", text)
        return run

    @classmethod
    def resume_or_create(
        cls, path: str | Path, config: Any, *, ignoring: Collection[str], overwrite: bool = False
    ) -> "Run":
        """Return the run of this configuration that is there already, or `create` one.

        With `overwrite` a run is created unless the one that is there is unfinished and was itself
        begun with it: the same command, given again, goes on.

        Args:
            ignoring: fields of `config` in which the run there may differ.

        Raises:
            FileExistsError: the directory holds a run of another configuration; the message says
                in what it differs. And as `create`.
            OSError: as `create`.
        """
        run = cls(Path(path), resuming=True)
        if run._written() and not (run.path / "config.json").exists():
            run._make_way(True)  # it was stopped before it had begun
            return cls.create(path, config, overwrite=overwrite)
        if not run._written():
            return cls.create(path, config, overwrite=overwrite)
        wanted = json.loads(_json(dataclasses.asdict(config)))
        try:
            there = run.read_json("config.json")
        except OSError as error:
            if not overwrite:
                raise FileExistsError(f"{error}; give another directory, or --overwrite") from error
            there = {}
        names = *wanted, *(there.keys() - wanted.keys())
        other = [n for n in names if n not in ignoring and there.get(n) != wanted.get(n)]
        begun_alike = bool(there.get("overwrite")) and not run.finished
        if overwrite and (other or not begun_alike):
            return cls.create(path, config, overwrite=True)
        if other:
            differences = ", ".join(
                f"--{n.replace('_', '-')} {_shown(there, n)}, not {_shown(wanted, n)}"
                for n in other[:3]
            )
            raise FileExistsError(
                f"{path} already holds a run, of {differences}; give another directory, the same "
                "arguments to go on with it, or --overwrite"
            )
        return run

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return (self.path / FINISHED).exists()

    @property
    def history(self) -> Path:
        """The folder of what is needed until the run is finished."""
        return self.shared(".history")

    def rollback(self) -> None:
        """Remove a run that wrote only config.json, and its directory if nothing else is there.

        A run that it was to replace is put back.
        """
        if self.scratch is None and self._written() == ["config.json"]:
            for name in ("config.json", WRITTEN):
                (self.path / name).unlink()
            if self._replaced.exists():
                for file in self._replaced.iterdir():
                    file.rename(self.path / file.name)
                self._replaced.rmdir()
            with contextlib.suppress(OSError):  # it holds something else
                self.path.rmdir()

    def finish(self) -> None:
        """Note that the run is finished, and remove what is left of one that it replaces."""
        for name, end in self._ends.items():
            os.truncate(self.path / name, end)
        self._replace(FINISHED, "")
        self._forget_replaced()
        shutil.rmtree(self.history, ignore_errors=True)

    def _forget_replaced(self):
        if self._replaced.exists():
            shutil.rmtree(self._replaced)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to a file as JSON; arrays and tuples become lists, paths strings."""
        self._replace(name, _json(value, indent=2))

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            FileNotFoundError: the directory holds no such file.
            OSError: it is damaged.
        """
        try:
            return json.loads((self.path / name).read_bytes())
        except ValueError as error:
            raise OSError(f"{self.path / name} is damaged: {error}") from error

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
            chunk: has `first_step`, counted from 1, `metrics`, name -> `[steps, S]`, and `counts`,
                how many of these steps each member did, `[S]`.
            every: record the steps that are multiples of it.
        """
        rows, names = [], list(chunk.metrics)
        for at, values in enumerate(zip(*chunk.metrics.values(), strict=True)):
            step = chunk.first_step + at
            if step % every == 0:
                rows += [
                    {**labels, "seed": seed, "step": step, **dict(zip(names, own, strict=True))}
                    for seed, count, *own in zip(seeds, chunk.counts, *values, strict=True)
                    if at < count
                ]
        self.append("metrics.jsonl", rows)

    def append_time(self, **values: Any) -> None:
        """Append a line to times.jsonl, with the seconds since 1970 added."""
        self._record("times.jsonl")
        self._append("times.jsonl", _json({**values, "time": time.time()}))

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a JSON-lines file."""
        if self.scratch is not None:
            return
        data = "".join(_json(row) for row in rows).encode()
        self._record(name)
        path = self.path / name
        if name not in self._ends:
            self._ends[name] = 0 if self.resuming or not path.exists() else path.stat().st_size
        with (
            _explained(path),
            open(path, "r+b" if path.exists() else "w+b", buffering=0) as file,
        ):
            file.seek(self._ends[name])
            if file.read(len(data)) != data:
                file.seek(self._ends[name])
                file.truncate()
                _write(file, data)
        self._ends[name] += len(data)

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

    def write_parquet(self, name: str, columns: Mapping[str, Any]) -> None:
        """Write columns of equal length to NAME.parquet: arrays, or lists of values or of lists."""
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({key: pyarrow.array(column) for key, column in columns.items()})
        content = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, content)
        self._replace(f"{name}.parquet", content.getvalue().to_pybytes())

    def file(self, name: str) -> Path:
        """Return the path of a file or directory that others write, and note that it is the run's.

        For what libraries write themselves: audio, music.
        """
        self._record(name)
        return (self.scratch or self.path) / name

    def shared(self, name: str) -> Path:
        """Return the path of a file or directory that all processes of a program use together.

        For checkpoints, which they write together.
        """
        self._record(name)
        return self.path / name

    def cached(
        self, name: str, compute: Callable[..., Mapping[str, Any]], *args: Any
    ) -> dict[str, np.ndarray]:
        """Return the arrays that `compute(*args)` gives, or has given before in this run.

        So that a run that is stopped and goes on does not compute again what it has.

        Args:
            name: of the result within the run.
            compute: gives arrays, or numbers, by name.
        """
        path = self.history / f"{name}.npz"
        if self.resuming:
            with contextlib.suppress(OSError):
                return read_arrays(path)
        found = {key: np.asarray(value) for key, value in compute(*args).items()}
        if self.scratch is None:
            write_arrays(path, found)
        return found

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
        self._forget_replaced()
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
        if self.scratch is None and name not in self._written():
            self._append(WRITTEN, f"{name}\n")

    def _replace(self, name, content):
        """Write a file as a whole: until it is finished the old one stays."""
        if self.scratch is not None:
            return
        self._record(name)
        unfinished = self._unfinished(name)
        try:
            with _explained(self.path / name):
                unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
                unfinished.replace(self.path / name)
        finally:
            unfinished.unlink(missing_ok=True)

    def _unfinished(self, name):
        return self.path / f".{name}.unfinished"

    def _append(self, name, lines):
        """Append whole lines in one write, after what was torn when a disk was full."""
        if self.scratch is not None:
            return
        path = self.path / name
        with _explained(path), open(path, "a+b", buffering=0) as file:
            torn = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0
            torn = torn and file.read(1) != b"\n"
            _write(file, b"\n" * torn + lines.encode())


def _write(file, data):
    while data:
        data = data[file.write(data) :]


def _shown(config, name):
    value = config.get(name, "nothing")
    return " ".join(map(str, value)) if isinstance(value, list) else value


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file, whole or not at all; its folder is made if need be.

    It is one of NumPy's, and behind that a checksum.
    """
    data, plain = io.BytesIO(), {}
    for name, array in arrays.items():
        array, kind = np.asarray(array), ""
        if array.dtype.kind == "V":  # bfloat16 and its like, which NumPy's files do not know
            array, kind = array.view(f"u{array.itemsize}"), array.dtype.name
        plain[f"{kind}:{name}"] = array
    np.savez(data, **plain)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(data.getvalue() + _checksum(data.getvalue()))
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` has written.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is damaged.
    """
    data = path.read_bytes()
    if _checksum(data[:-4]) != data[-4:]:
        raise OSError(f"{path} is damaged")
    found = {}
    with np.load(io.BytesIO(data[:-4])) as file:
        for name in file.files:
            kind, _, own = name.partition(":")
            found[own] = file[name].view(kind) if kind else file[name]
    return found


def _checksum(data):
    return zlib.crc32(data).to_bytes(4, "little")


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
