"""The run directory: what a new run holds, its metrics and times, and paths that are refused."""

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from run_directories import Config, contents, names

from rnnjax.runs import Run


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


@pytest.mark.parametrize("overwrite", [False, True])
def test_paths_that_cannot_be_run_directories(tmp_path, overwrite, monkeypatch):
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


def test_a_directory_without_write_permission(tmp_path, monkeypatch):
    """As the system refuses it to everyone but root, under whom tests run too."""
    opened = os.open

    def refuse(file, flags, *args, **kwargs):
        if str(file).startswith(str(tmp_path)) and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match=f"cannot write to {tmp_path}/.*: Permission denied"):
        Run.create(tmp_path, Config())


def test_metrics_are_written_as_these_bytes(run):
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


def test_times_are_in_a_file_of_their_own(run):
    run.append_time(cell="gru", step=np.int32(3))
    (row,) = run.read_rows("times.jsonl")
    assert (row["cell"], row["step"]) == ("gru", 3) and row["time"] > 1.7e9
