"""The run directory, and `Run`, which writes it and reads it back.

config.json      the arguments of the run
metrics.jsonl    one line for each recorded step and member; the same run gives the same bytes
times.jsonl      wall-clock times, kept in a file of their own for that reason
NAME.csv         a table: the numbers behind figure NAME
NAME.png, .svg   figures
stopped.jsonl    one line for each member that stopped because a metric was not finite
stopped/         the last good state of each of these members
training/        checkpoints
.history         what is needed to resume the run; removed when the run is finished
summary.json     results
predict.json     of an application, checksums of what --predict reads; see `rnnjax.experiment`
.finished        present when the run is finished
.rnnjax          the names of all these: what may be removed when the run is overwritten
.replaced        the run that this one overwrites, until this one is finished
.discarded       the names of what is being deleted
.lock            held by the process that writes here

How numbers are written is in `rnnjax.runs.tables`.
"""

import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.runs import reading, tables
from rnnjax.runs.atomic_files import append_lines, cut_at, explain_errors, replace_file, write_at
from rnnjax.runs.cache import cached_arrays
from rnnjax.runs.comparing import differences
from rnnjax.runs.figure_files import image_files
from rnnjax.runs.overwriting import (
    FINISHED,
    HISTORY,
    WRITTEN,
    check_own,
    delete_replaced,
    holds_something,
    move_away,
    put_back,
    recover,
    written_files,
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory. `Run.create` makes a new one; `Run(path)` reads an existing one.

    Every write replaces a whole file or appends whole lines, so a run that is stopped keeps
    everything it has written. Only a run that wrote nothing but config.json is removed, by
    `rollback`.
    """

    path: Path
    resuming: bool = False
    """Whether an earlier process may have appended the same lines already. Equal lines then stay,
    and different ones are replaced."""
    scratch: Path | None = None
    """In all processes of a program but the first: the folder for files that libraries write.
    What the run itself would write is discarded there."""
    _ends: dict[str, int] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def create(cls, path: str | Path, config: Any, *, overwrite: bool = False) -> "Run":
        """Create the directory and write `config`, a dataclass, to config.json.

        With `overwrite`, the files of an existing run, and no others, are moved to the folder
        .replaced. They are deleted when the new run is finished, and moved back by `rollback`.

        Raises:
            FileExistsError: `path` is a file; or holds a run, and `overwrite` is false; or holds
                one of the files above that no run wrote. Nothing has been changed.
            OSError: the directory cannot be created or written to; the message says why.
        """
        run = cls(Path(path))
        text = tables.json_text(dataclasses.asdict(config), indent=2)
        with explain_errors(path):
            move_away(run.path, overwrite=overwrite)
            run.path.mkdir(parents=True, exist_ok=True)
            run._replace("config.json", text)
        return run

    @classmethod
    def resume_or_create(
        cls, path: str | Path, config: Any, *, ignoring: Collection[str], overwrite: bool = False
    ) -> "Run":
        """Return the existing run of this configuration, or `create` one.

        With `overwrite` a new run is created, unless the existing run is unfinished and was itself
        started with `overwrite`: the same command, given twice, resumes.

        Args:
            ignoring: fields of `config` in which the existing run may differ.

        Raises:
            FileExistsError: the directory holds a run of another configuration; the message says
                how it differs. Also as in `create`.
            OSError: as in `create`.
        """
        run = cls(Path(path), resuming=True)
        if run.path.is_dir():
            with explain_errors(path):
                recover(run.path)
        if not holds_something(run.path):
            return cls.create(path, config, overwrite=overwrite)
        wanted = json.loads(tables.json_text(dataclasses.asdict(config)))
        try:
            existing = run.read_object("config.json")
        except OSError as error:
            if not overwrite:
                raise FileExistsError(f"{error}; give another directory, or --overwrite") from error
            existing = {}
        different = differences(existing, wanted, ignoring)
        same_command = bool(existing.get("overwrite")) and not run.finished
        if overwrite and (different or not same_command):
            return cls.create(path, config, overwrite=True)
        if different:
            raise FileExistsError(
                f"{path} already holds a run, of {different}; give another directory, the same "
                "arguments to resume it, or --overwrite"
            )
        return run

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return (self.path / FINISHED).exists()

    @property
    def history(self) -> Path:
        """The folder of files that are needed until the run is finished."""
        return self.shared(HISTORY)

    def rollback(self) -> None:
        """Remove a run that wrote only config.json, and its directory if that is empty then.

        The run that it was to overwrite is put back. A run that holds more stays as it is.
        """
        if self.scratch is None and self._written() == ["config.json"]:
            put_back(self.path)

    def finish(self) -> None:
        """Mark the run as finished, and delete the run that it overwrote."""
        for name, end in self._ends.items():
            cut_at(self.path / name, end)
        self._replace(FINISHED, "")
        delete_replaced(self.path)
        shutil.rmtree(self.history, ignore_errors=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to a file as JSON; arrays and tuples become lists, paths strings."""
        self._replace(name, tables.json_text(value, indent=2))

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            FileNotFoundError: the directory holds no such file.
            OSError: the file is damaged.
        """
        return reading.read_json(self.path / name)

    def read_object(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run that holds an object; errors as in `read_json`."""
        return reading.read_object(self.path / name)

    def append_metrics(
        self, labels: Mapping[str, Any], seeds: Sequence[Any], chunk: Any, *, every: int = 1
    ) -> None:
        """Append a chunk of training to metrics.jsonl, one line for each recorded step and seed.

        Args:
            labels: on every line, such as the cell.
            seeds: of the S members.
            chunk: has `first_step`, counted from 1; `metrics`, name -> `[steps, S]`; and `counts`,
                `[S]`, the number of these steps that each member did.
            every: record the steps that are multiples of it.
        """
        self.append("metrics.jsonl", tables.metric_rows(labels, seeds, chunk, every))

    def append_time(self, **values: Any) -> None:
        """Append a line to times.jsonl, with the seconds since 1970 added."""
        self._record("times.jsonl")
        self._append("times.jsonl", tables.json_text({**values, "time": time.time()}))

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a JSON-lines file."""
        if self.scratch is not None:
            return
        data = "".join(map(tables.json_text, rows)).encode()
        self._record(name)
        path = self.path / name
        if name not in self._ends:
            self._ends[name] = 0 if self.resuming or not path.exists() else path.stat().st_size
        write_at(path, self._ends[name], data)
        self._ends[name] += len(data)

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """Read a JSON-lines file of the run, without a last line that was cut off.

        Errors are those of `read_json`.
        """
        return reading.read_rows(self.path / name)

    def write_table(self, name: str, parts: Sequence[Mapping[str, Any]]) -> None:
        """Write parts of a table, one below the other, to NAME.csv.

        A part maps column names to columns of equal length, or to one value for all its rows.

        Raises:
            ValueError: there are no columns, or the parts have different ones.
        """
        self._replace(f"{name}.csv", tables.csv_text(name, parts))

    def write_tables(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write several tables, each given as its parts by its name."""
        for name, parts in tables.items():
            self.write_table(name, parts)

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        """Read NAME.csv as columns: float64 if all entries are numbers, strings otherwise.

        Errors are those of `read_json`.
        """
        return reading.read_csv(self.path / f"{name}.csv")

    def has_table(self, name: str) -> bool:
        """Return whether the run has written NAME.csv."""
        return (self.path / f"{name}.csv").exists()

    def write_parquet(self, name: str, columns: Mapping[str, Any]) -> None:
        """Write columns of equal length to NAME.parquet: arrays, or lists of values or of lists."""
        self._replace(f"{name}.parquet", tables.parquet_bytes(columns))

    def file(self, name: str) -> Path:
        """Return the path of a file or folder that a library writes, such as audio or music.

        It is recorded as the run's own.
        """
        self._record(name)
        return (self.scratch or self.path) / name

    def shared(self, name: str) -> Path:
        """Return the path of a file or folder that all processes write together: checkpoints.

        It is recorded as the run's own.
        """
        self._record(name)
        return self.path / name

    def cached(
        self, name: str, compute: Callable[..., Mapping[str, Any]], *args: Any
    ) -> dict[str, np.ndarray]:
        """Return the arrays that `compute(*args)` returns, from the run's history if it has them.

        A resumed run does not compute them a second time.

        Args:
            name: of the result within the run.
            compute: returns arrays, or numbers, by name.
        """
        return cached_arrays(
            self.history / f"{name}.npz",
            functools.partial(compute, *args),
            read=self.resuming,
            write=self.scratch is None,
        )

    def save_figure(self, name: str, figure: Any) -> None:
        """Save a matplotlib figure as NAME.png and NAME.svg; the same figure, the same bytes."""
        for extension, image in image_files(figure).items():
            self._replace(f"{name}.{extension}", image)

    def _written(self):
        return written_files(self.path)

    def _record(self, name):
        """List a file as the run's own, before it exists; errors are those of `check_own`."""
        check_own(self.path, name)
        if self.scratch is None and name not in self._written():
            self._append(WRITTEN, f"{name}\n")

    def _replace(self, name, content):
        if self.scratch is None:
            self._record(name)
            replace_file(self.path / name, content)

    def _append(self, name, lines):
        if self.scratch is None:
            append_lines(self.path / name, lines)
