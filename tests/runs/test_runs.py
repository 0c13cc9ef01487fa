"""The run directory: exact bytes, exact numbers, and nothing of anyone else's lost."""

import dataclasses
import decimal
import fcntl
import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from moments import moments

from rnnjax.runs import LockedError, Run, locked
from rnnjax.runs import directory as runs


@dataclasses.dataclass(frozen=True)
class Config:
    cells: tuple[str, ...] = ("elman", "grü")
    length: int | None = None
    rate: float = 3e-3
    out: Path = Path("some") / "where"


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "new" / "run", Config())


def contents(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def names(directory):
    return sorted(path.name for path in directory.iterdir() if path.name != runs.WRITTEN)


def write_everything(run):
    run.write_json("summary.json", {"elman": 1})
    run.append("metrics.jsonl", [{"step": 1}])
    run.append_time(step=1)
    run.write_table("numbers", [{"a": 1}])
    run.save_figure("drawing", Figure())
    written = (
        "config.json drawing.png drawing.svg metrics.jsonl numbers.csv summary.json times.jsonl"
    )
    return written.split()


def test_a_new_run_holds_its_config(run):
    assert names(run.path) == ["config.json"]
    text = (run.path / "config.json").read_text()
    assert (
        run.read_json("config.json")
        == json.loads(text)
        == {
            "cells": ["elman", "grü"],
            "length": None,
            "rate": 3e-3,
            "out": os.path.join("some", "where"),
        }
    )
    assert text.endswith("}\n")
    assert Run(run.path).read_json("config.json")["length"] is None
    with pytest.raises(FileNotFoundError):
        run.read_json("summary.json")


def test_a_run_is_not_overwritten_unasked(run):
    write_everything(run)
    before = contents(run.path)
    with pytest.raises(FileExistsError, match="already holds a run; give another directory"):
        Run.create(run.path, Config())
    assert contents(run.path) == before


def test_overwriting_removes_what_the_run_wrote_and_nothing_else(run):
    assert write_everything(run) == names(run.path)
    foreign = "notes.txt", "photo.png", "data.csv", "package.json", "log.jsonl", ".hidden"
    for name in foreign:
        (run.path / name).write_text(name)
    (run.path / "more").mkdir()
    (run.path / "more" / "config.json").write_text("mine")
    (run.path / "numbers.csv").unlink()  # what is gone already is no problem
    Run.create(str(run.path), Config(length=7), overwrite=True).finish()
    assert run.read_json("config.json")["length"] == 7
    assert names(run.path) == sorted([*foreign, "more", "config.json", ".finished"])
    for name in foreign:
        assert (run.path / name).read_text() == name
    assert (run.path / "more" / "config.json").read_text() == "mine"
    Run.create(run.path, Config(), overwrite=True).finish()
    assert len(names(run.path)) == len(foreign) + 3


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "times.jsonl", "summary.json"])
def test_a_file_of_another_origin_is_not_replaced(tmp_path, name, overwrite):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds a {name} that no run wrote"):
        Run.create(tmp_path, Config(), overwrite=overwrite)
    assert contents(tmp_path) == {Path(name): b"mine"}


def test_a_directory_with_other_things_will_do(tmp_path):
    (tmp_path / "log.txt").write_text("mine")
    Run.create(tmp_path, Config(), overwrite=True)
    assert names(tmp_path) == ["config.json", "log.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_places_where_no_run_can_be(tmp_path, overwrite, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError) as error:
        Run.create(file, Config(), overwrite=overwrite)
    assert str(error.value) == f"{file} is a file; give a directory"
    with pytest.raises(NotADirectoryError) as error:
        Run.create(file / "run", Config(), overwrite=overwrite)
    assert str(error.value) == f"cannot write to {file / 'run'}: Not a directory"
    with pytest.raises(OSError, match="cannot write to .*: File name too long"):
        Run.create(tmp_path / ("x" * 999), Config(), overwrite=overwrite)
    with pytest.raises(TypeError, match=r"cannot write \{1\} \(set\) to a run"):
        Run.create(tmp_path / "a", dataclasses.replace(Config(), length={1}), overwrite=overwrite)
    assert contents(tmp_path) == {Path("file"): b"mine"}

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError) as error:
        Run.create(tmp_path / "b", Config(), overwrite=overwrite)
    assert str(error.value) == f"cannot write to {tmp_path / 'b'}: Permission denied"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=f"cannot write to {tmp_path}: Permission denied"):
        Run.create(tmp_path, Config())
    tmp_path.chmod(0o700)


def test_metrics_are_these_bytes(run):
    metrics = {
        "loss": np.array([[0.1, 1 / 3], [1e-9, 2]], np.float32),
        "hits": np.array([[3, 4], [5, 6]]),
    }
    run.append_metrics(
        {"cell": "lstm"}, (7, 8), SimpleNamespace(first_step=1, metrics=metrics, counts=[2, 2])
    )
    later = SimpleNamespace(first_step=3, metrics=metrics, counts=[2, 2])
    run.append_metrics({"cell": "lstm"}, range(7, 9), later, every=2)
    assert (run.path / "metrics.jsonl").read_bytes() == (
        b'{"cell": "lstm", "seed": 7, "step": 1, "loss": 0.1, "hits": 3}\n'
        b'{"cell": "lstm", "seed": 8, "step": 1, "loss": 0.33333334, "hits": 4}\n'
        b'{"cell": "lstm", "seed": 7, "step": 2, "loss": 1e-09, "hits": 5}\n'
        b'{"cell": "lstm", "seed": 8, "step": 2, "loss": 2.0, "hits": 6}\n'
        b'{"cell": "lstm", "seed": 7, "step": 4, "loss": 1e-09, "hits": 5}\n'
        b'{"cell": "lstm", "seed": 8, "step": 4, "loss": 2.0, "hits": 6}\n'
    )
    rows = run.read_rows("metrics.jsonl")
    assert [(row["step"], row["seed"]) for row in rows[-2:]] == [(4, 7), (4, 8)]
    assert np.float32(rows[1]["loss"]) == np.float32(1 / 3)
    for seeds in ((7,), (7, 8, 9)):
        with pytest.raises(ValueError, match="zip"):
            run.append_metrics({}, seeds, later)


@given(st.floats(width=32))
def test_a_float32_is_the_shortest_decimal_that_reads_back(value):
    number = np.float32(value)
    text = json.dumps(runs._plain(number))
    back = np.float32(json.loads(text))
    assert back.tobytes() == number.tobytes() or (math.isnan(number) and math.isnan(back))
    if math.isfinite(number):  # one digit fewer names another number
        digits = len(decimal.Decimal(text).normalize().as_tuple().digits)
        assert digits == 1 or np.float32(f"{number:.{digits - 2}e}") != number


def test_a_parquet_file_reads_back(run):
    from pyarrow import parquet

    columns = {
        "cell": np.array(["lstm", "grü"]),
        "loss": np.array([0.1, np.nan]),
        "step": [3, 2**40],
        "seeds": [[0.5, 1.5], []],
    }
    run.write_parquet("trials", columns)
    found = parquet.read_table(run.path / "trials.parquet").to_pydict()
    np.testing.assert_equal(found, {key: [*map(plain, column)] for key, column in columns.items()})
    assert names(run.path) == ["config.json", "trials.parquet"]
    with pytest.raises(ValueError, match="length"):
        run.write_parquet("trials", {"a": [1], "b": [1, 2]})


def plain(value):
    return value.item() if isinstance(value, np.generic) else value


def test_json_takes_numbers_and_arrays_of_numpy_and_jax(run):
    value: dict[str, Any] = {
        "f32": np.float32(0.1),
        "f64": np.float64(0.1) + 0.2,
        "int": np.int64(2**62),
        "bool": np.bool_(True),
        "jax": jnp.arange(3.0) / 10,
        "bf16": jnp.bfloat16(0.5),
        "nested": [(Path("a"), np.ones((2, 1), int))],
        "text": np.array(["a", "b"]),
        "not finite": np.array([np.nan, np.inf, -np.inf], np.float32),
        "float": math.inf,
    }
    run.write_json("summary.json", value)
    back = run.read_json("summary.json")
    assert math.isnan(back["not finite"].pop(0))
    assert back == {
        "f32": 0.1,
        "f64": 0.1 + 0.2,
        "int": 2**62,
        "bool": True,
        "jax": [0.0, 0.1, 0.2],
        "bf16": 0.5,
        "nested": [["a", [[1], [1]]]],
        "text": ["a", "b"],
        "not finite": [math.inf, -math.inf],
        "float": math.inf,
    }
    assert "NaN" in (run.path / "summary.json").read_text()
    for wrong in (object(), {1}, 1j):
        with pytest.raises(TypeError, match="cannot write"):
            run.write_json("wrong.json", {"a": [wrong]})
    assert not (run.path / "wrong.json").exists()


def test_rows_are_appended_whole(run, monkeypatch):
    with pytest.raises(TypeError, match="cannot write"):
        run.append("rows.jsonl", [{"a": 1}, {"a": object()}])
    assert not (run.path / "rows.jsonl").exists()
    writes = []

    class Short(io.FileIO):
        def write(self, data, /):
            writes.append(super().write(bytes(data)[:50_000]))  # a disk may take a part at a time
            return writes[-1]

    real_open = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, mode, buffering=-1: (
            real_open(path, mode, buffering) if buffering else Short(path, mode)
        ),
    )
    rows = [{"a": "x" * 1000, "b": i} for i in range(99)]
    run.append("rows.jsonl", rows)
    assert len(writes) == 1 + 3  # the name of the file, and the rows
    monkeypatch.undo()
    run.append("rows.jsonl", [{"a": "\u2028ü\n"}])
    assert run.read_rows("rows.jsonl") == [*rows, {"a": "\u2028ü\n"}]
    with open(run.path / "rows.jsonl", "a") as file:
        file.write('{"a": "cut o')
    assert run.read_rows("rows.jsonl") == [*rows, {"a": "\u2028ü\n"}]


def test_times_stand_apart(run):
    run.append_time(cell="gru", step=np.int32(3))
    (row,) = run.read_rows("times.jsonl")
    assert (row["cell"], row["step"]) == ("gru", 3) and row["time"] > 1.7e9


def test_tables_come_back(run):
    third = np.array([1 / 3, -np.inf, np.nan])
    parts = [
        {"cell": "lstm", "path": ["c", 'h, "x"', "ü\n"], "lag": np.arange(3), "value": third},
        {"lag": 7, "value": np.float32(0.1), "cell": "gru", "path": "c"},
        {"cell": [], "path": [], "lag": [], "value": 1.0},
    ]
    run.write_table("profiles", parts)
    table = run.read_table("profiles")
    assert list(table) == ["cell", "path", "lag", "value"]
    assert table["cell"].tolist() == ["lstm"] * 3 + ["gru"]
    assert table["path"].tolist() == ["c", 'h, "x"', "ü\n", "c"]
    assert table["lag"].tolist() == [0, 1, 2, 7] and table["lag"].dtype == np.float64
    np.testing.assert_array_equal(table["value"], [*third, 0.1])
    lines = (run.path / "profiles.csv").read_bytes().split(b"\n")
    assert lines[:2] == [b"cell,path,lag,value", b"lstm,c,0,0.3333333333333333"]
    assert lines[-2:] == [b"gru,c,7,0.1", b""]


@given(st.lists(st.floats(), min_size=1))
def test_tables_keep_every_bit_of_a_float64(tmp_path_factory, values):
    run = Run(tmp_path_factory.getbasetemp())
    run.write_table("bits", [{"x": np.array(values)}])
    np.testing.assert_array_equal(run.read_table("bits")["x"], values)


def test_a_table_without_rows(run):
    run.write_table("empty", [{"a": [], "b": []}])
    table = run.read_table("empty")
    assert list(table) == ["a", "b"] and all(column.shape == (0,) for column in table.values())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "table t needs columns"),
        ([{}], "table t needs columns"),
        ([{"a": 1}, {"a": 1, "b": 2}], r"columns \['a'\], got \['a', 'b'\]"),
        ([{"a": 1, "b": 2}, {"b": 2}], r"columns \['a', 'b'\], got \['b'\]"),
        ([{"a": [1, 2], "b": [1, 2, 3]}], "shape mismatch"),
    ],
)
def test_parts_that_make_no_table(run, parts, message):
    with pytest.raises(ValueError, match=message):
        run.write_table("t", parts)
    assert names(run.path) == ["config.json"]


def test_what_is_not_finished_does_not_stay(run, monkeypatch):
    run.write_json("summary.json", "old")
    real_write = Path.write_bytes

    def disk_full(path, data):
        real_write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space"):
        run.write_json("summary.json", "new")
    assert run.read_json("summary.json") == "old"
    assert names(run.path) == ["config.json", "summary.json"]
    monkeypatch.undo()
    # A process that is killed cannot clean up; the next run does, and nobody reads what is left.
    (run.path / ".summary.json.unfinished").write_text("half")
    assert run.read_json("summary.json") == "old"
    Run.create(run.path, Config(), overwrite=True).finish()
    assert names(run.path) == [".finished", "config.json"]


def test_a_run_that_is_overwritten_stays_until_the_new_one_is_finished(run):
    run.write_json("summary.json", "old")
    (run.file("params") / "d").mkdir(parents=True)  # a directory that a library writes
    (run.path / "params" / "d" / "0").write_text("arrays")
    old = contents(run.path)
    for _ in range(2):
        Run.create(run.path, Config(length=7), overwrite=True).rollback()
        assert contents(run.path) == old
    new = Run.create(run.path, Config(length=7), overwrite=True)
    new.append("metrics.jsonl", [{"step": 1}])
    new.rollback()  # too late, it holds something
    kept = contents(new.path / ".replaced")
    assert kept == old and new.read_rows("metrics.jsonl") == [{"step": 1}]
    new.finish()
    written = "config.json", "metrics.jsonl", ".rnnjax", ".finished"
    assert set(contents(new.path)) == {*map(Path, written)}


def test_the_same_figure_gives_the_same_bytes(run):
    def draw():
        figure = Figure(figsize=(5, 3.8), layout="constrained")  # laid out anew, it moves a little
        ax = figure.subplots()
        ax.plot([0, 1], [1, 1], label="x")
        ax.pcolormesh(np.arange(6.0).reshape(2, 3)).set_rasterized(True)
        ax.set(xlabel="p", ylabel="q")
        ax.legend()
        return figure

    figure = draw()
    run.save_figure("first", figure)
    run.save_figure("second", figure)
    run.save_figure("third", draw())
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        first, *others = (run.path / f"{n}.{ending}" for n in ("first", "second", "third"))
        assert first.read_bytes().startswith(magic) and first.stat().st_size > 1000
        assert all(other.read_bytes() == first.read_bytes() for other in others)
    assert not [name for name in names(run.path) if name.startswith(".")]


def test_a_run_that_wrote_nothing_but_its_config_can_be_withdrawn(run):
    run.rollback()
    assert not run.path.exists()
    begun = Run.create(run.path, Config())
    begun.append("metrics.jsonl", [{"step": 1}])
    before = contents(begun.path)
    begun.rollback()
    assert contents(begun.path) == before
    other = Run.create(run.path.parent / "other", Config())
    (other.path / "notes.txt").write_text("mine")
    other.rollback()
    assert contents(other.path) == {Path("notes.txt"): b"mine"}


# --- one process at a time --------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from rnnjax.runs import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a directory, and that directory."""
    path = tmp_path / "held" / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        yield process, path
        process.kill()


@pytest.mark.slow
@pytest.mark.multiprocess
def test_another_process_keeps_out_and_however_it_ends_it_does_so_no_more(holder):
    process, path = holder
    for _ in range(2):
        with pytest.raises(LockedError) as error, locked(path):
            raise AssertionError
        assert str(error.value) == (
            f"{path} is being written to by process {process.pid} on {socket.gethostname()}; "
            "wait until it has finished, or give another directory"
        )
        assert names(path) == [".lock"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(path) == [".lock"]  # it could not tidy up
    with locked(path):
        assert (path / ".lock").read_text() == f"{os.getpid()} on {socket.gethostname()}\n"
    assert not path.exists()


def test_a_lock_holds_within_a_process_too_and_leaves_nothing(tmp_path):
    path = tmp_path / "a" / "run"
    with locked(path):
        with pytest.raises(LockedError, match=f"by process {os.getpid()} on"), locked(path):
            raise AssertionError
        assert names(path) == [".lock"]
        with locked(tmp_path / "a" / "other"):
            pass
    assert contents(tmp_path) == {} and not path.exists()
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    with locked(path):  # what has been written stays
        (path / "mine").write_text("")
    assert names(path) == ["mine"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file; give a directory"):
        locked(tmp_path / "file").__enter__()
    with pytest.raises(OSError, match=r"cannot write to .*/file/run: Not a directory"):
        locked(tmp_path / "file" / "run").__enter__()


def test_one_waits_for_no_lock_of_a_directory_that_has_gone(tmp_path, monkeypatch):
    """Between making the directory and the lock another process removes it; between lock and
    question it removes the lock."""
    path, real = tmp_path / "run", fcntl.flock
    removed = []

    def racing(file, how):
        real(file, how)
        if len(removed) < 3:
            removed.append(file)
            (path / ".lock").unlink()
            if len(removed) < 3:
                path.rmdir()

    monkeypatch.setattr(fcntl, "flock", racing)
    with locked(path):
        assert names(path) == [".lock"] and len(removed) == 3


# --- a run that is there already --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options(Config):
    keep: int = 2
    overwrite: bool = False


def opened(path, **changes):
    config = Options(out=path, **changes)
    options = {"out", "overwrite", "keep"}
    return Run.resume_or_create(path, config, ignoring=options, overwrite=config.overwrite)


def begun(path, **changes):
    run = opened(path, **changes)
    run.append("metrics.jsonl", [{"step": 1}, {"step": 2}])
    return run


def test_a_run_of_the_same_arguments_is_opened_and_no_other(tmp_path):
    path = tmp_path / "run"
    assert not begun(path).resuming
    before = contents(path)
    for changes in ({}, {"keep": 7}):
        assert opened(path, **changes).resuming
    for changes, message in {
        ("length", 3): "of --length None, not 3; give another directory, the same arguments to go",
        ("cells", ("elman",)): "of --cells elman grü, not elman; give",
        ("rate", 1.0): "of --rate 0.003, not 1.0; give",
    }.items():
        with pytest.raises(FileExistsError, match=f"already holds a run, {message}"):
            opened(path, **dict([changes]))
    assert contents(path) == before
    (path / "config.json").write_text('{"cells": ')
    with pytest.raises(FileExistsError, match=r"config.json is damaged: .*, or --overwrite$"):
        opened(path)
    assert not opened(path, overwrite=True).resuming


def test_overwriting_begins_again_once(tmp_path):
    path = tmp_path / "run"
    begun(path).finish()
    new = opened(path, overwrite=True)  # finished: it makes way
    assert not new.resuming and names(path) == [".replaced", "config.json"]
    new.append("metrics.jsonl", [{"step": 1}])
    again = opened(path, overwrite=True)  # the same command goes on
    assert again.resuming and again.read_rows("metrics.jsonl") == [{"step": 1}]
    assert opened(path).resuming  # and so without it
    other = opened(path, overwrite=True, length=3)
    assert not other.resuming and not (path / "metrics.jsonl").exists()
    other.finish()
    assert names(path) == [".finished", "config.json"]
    begun(tmp_path / "unasked")
    assert not opened(tmp_path / "unasked", overwrite=True).resuming


def test_killed_at_any_moment_of_the_beginning_it_begins_again(tmp_path):
    path = tmp_path / "run"
    begun(path).finish()
    with moments(path, tmp_path / "copies") as left:
        Run.resume_or_create(path, Options(length=3), ignoring=(), overwrite=True)
    left.append(path)
    want = {Path("config.json"): contents(path)[Path("config.json")]}
    for copy in left:
        for flag in (True, False):
            place = tmp_path / "again" / f"{copy.name}-{flag}"
            shutil.copytree(copy, place)
            try:
                run = Run.resume_or_create(place, Options(length=3), ignoring=(), overwrite=flag)
            except FileExistsError as error:  # the old run has not been touched
                assert not flag and "already holds a run, of --length None, not 3" in str(error)
                assert Run(place).finished
                continue
            run.finish()
            found = contents(place)
            written = found.pop(Path(".rnnjax")).decode().splitlines()
            assert found.pop(Path(".finished")) == b"" and found == want
            assert set(written) >= {"config.json", ".finished"}
    assert len(left) > 8


@pytest.mark.parametrize("text", ["con", "config.json", "config.json\nmet", ""])
def test_what_was_noted_before_a_kill_or_on_a_full_disk_may_be_torn(text, tmp_path):
    (tmp_path / ".rnnjax").write_text(text)
    run = begun(tmp_path)
    assert run.read_json("config.json")["length"] is None
    assert opened(tmp_path).resuming
    assert set((tmp_path / ".rnnjax").read_text().splitlines()) >= {"config.json", "metrics.jsonl"}


def test_what_is_appended_again_stays_or_is_put_right(tmp_path):
    path = tmp_path / "run"
    rows = [{"step": step, "loss": step / 3} for step in range(6)]
    begun(path).append("rows.jsonl", rows[:4])
    whole = (path / "rows.jsonl").read_bytes()
    for damage in (whole, whole[:-5], whole[:7], b"", whole.replace(b"3", b"4"), whole + b"{}\n"):
        (path / "rows.jsonl").write_bytes(damage)
        run = opened(path)
        run.append("rows.jsonl", rows[:2])
        if damage.startswith(whole):
            assert (path / "rows.jsonl").read_bytes() == damage  # nothing is lost meanwhile
        run.append("rows.jsonl", rows[2:4])
        run.append("rows.jsonl", [])
        assert (path / "rows.jsonl").read_bytes()[: len(whole)] == whole
        run.finish()
        assert (path / "rows.jsonl").read_bytes() == whole
        (path / ".finished").unlink()
    (path / "times.jsonl").write_text('{"cut o')
    opened(path).append_time(step=1)
    assert (path / "times.jsonl").read_text().startswith('{"cut o\n{"step": 1, ')


def test_what_is_computed_once_is_not_computed_again(tmp_path):
    calls = []

    def compute(scale):
        calls.append(scale)
        half = np.arange(4).astype(jnp.bfloat16) / 3
        return {"file": half, "float": np.float32(0.1) * scale, "names": np.array(["a", "bc"])}

    def same(found, want):
        for name, value in want.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
        return found.keys() == want.keys()

    path = tmp_path / "run"
    first = begun(path).cached("a b/3", compute, 2)
    assert same(opened(path).cached("a b/3", compute, 2), first) and calls == [2]
    (file,) = (path / ".history").rglob("*.npz")
    data = file.read_bytes()
    for at in range(0, len(data), 7):  # whatever bit flips, it is seen
        file.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(OSError, match="is damaged"):
            runs.read_arrays(file)
    assert same(opened(path).cached("a b/3", compute, 2), first) and calls == [2, 2]
    for damage in (file.unlink, lambda: file.write_bytes(data[:30]), lambda: file.write_bytes(b"")):
        damage()
        assert same(opened(path).cached("a b/3", compute, 2), first)
        assert file.read_bytes() == data
    assert calls == [2] * 5
    opened(path).finish()
    assert not (path / ".history").exists()


def test_a_full_disk_is_told_with_the_file(run, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "_write", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    writes = {
        "config.json": lambda: run.write_json("config.json", 1),
        "metrics.jsonl": lambda: run.append("metrics.jsonl", [{"a": 1}]),
        "a.npz": lambda: runs.write_arrays(run.path / "a.npz", {"a": 1}),
    }
    (run.path / ".rnnjax").write_text("\n".join(writes))
    for name, write in writes.items():
        with pytest.raises(OSError, match=f"cannot write to .*/{name}: No space left on device"):
            write()
