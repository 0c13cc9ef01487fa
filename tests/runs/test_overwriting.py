"""Overwriting a run: only its own files are removed, and none before the new run is finished."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from run_directories import Config, contents, names

from rnnjax.runs import Run


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


def test_a_run_is_not_overwritten_without_the_option(run):
    write_everything(run)
    before = contents(run.path)
    with pytest.raises(FileExistsError, match="already holds a run; give another directory"):
        Run.create(run.path, Config())
    assert contents(run.path) == before


def test_overwriting_removes_only_files_that_the_run_wrote(run):
    assert write_everything(run) == names(run.path)
    foreign = "notes.txt", "photo.png", "data.csv", "package.json", "log.jsonl", ".hidden"
    for name in foreign:
        (run.path / name).write_text(name)
    (run.path / "more").mkdir()
    (run.path / "more" / "config.json").write_text("mine")
    (run.path / "numbers.csv").unlink()  # a missing file is no error
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
def test_a_file_that_no_run_wrote_is_not_replaced(tmp_path, name, overwrite):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds a {name} that no run wrote"):
        Run.create(tmp_path, Config(), overwrite=overwrite)
    assert contents(tmp_path) == {Path(name): b"mine"}


def test_a_directory_may_hold_other_files(tmp_path):
    (tmp_path / "log.txt").write_text("mine")
    Run.create(tmp_path, Config(), overwrite=True)
    assert names(tmp_path) == ["config.json", "log.txt"]


def test_a_run_that_is_overwritten_stays_until_the_new_one_is_finished(run):
    run.write_json("summary.json", "old")
    (run.file("params") / "d").mkdir(parents=True)  # a folder that a library writes
    (run.path / "params" / "d" / "0").write_text("arrays")
    old = contents(run.path)
    for _ in range(2):
        Run.create(run.path, Config(length=7), overwrite=True).rollback()
        assert contents(run.path) == old
    new = Run.create(run.path, Config(length=7), overwrite=True)
    new.append("metrics.jsonl", [{"step": 1}])
    new.rollback()  # too late: the run holds something
    kept = contents(new.path / ".replaced")
    assert kept == old and new.read_rows("metrics.jsonl") == [{"step": 1}]
    new.finish()
    written = "config.json", "metrics.jsonl", ".rnnjax", ".finished"
    assert set(contents(new.path)) == {*map(Path, written)}


def test_a_run_that_wrote_only_its_config_can_be_rolled_back(run):
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
