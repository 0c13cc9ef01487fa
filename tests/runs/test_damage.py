"""Run directories that someone or something has altered: nothing outside is touched, or lost."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from moments import moments
from run_directories import Options, begin, contents, names, resume_or_begin

from rnnjax.runs import Run, locked
from rnnjax.runs.overwriting import is_own_name, written_files


@pytest.mark.parametrize("line", ["../mine", "..", ".", "", "/etc", "a/b", ".lock", ".replaced"])
def test_only_names_within_the_directory_are_a_runs_own(tmp_path, line):
    (tmp_path / "mine").write_text("mine")
    path = tmp_path / "run"
    begin(path).finish()
    with open(path / ".rnnjax", "a") as file:
        file.write(f"{line}\n")
    assert not is_own_name(line) and line not in written_files(path)
    for _ in range(2):
        new = resume_or_begin(path, overwrite=True)
        assert (path / ".replaced" / "metrics.jsonl").exists() and not (
            path / "metrics.jsonl"
        ).exists()
        new.append("metrics.jsonl", [{"step": 1}])
        new.finish()
    assert (tmp_path / "mine").read_text() == "mine"
    assert names(path) == [".finished", "config.json", "metrics.jsonl"]
    with pytest.raises(ValueError, match="not the name of a file within it"):
        Run(path).file(line)


LINKS = (
    ".lock .config.json.unfinished metrics.jsonl .replaced training/elman/steps .history .rnnjax"
)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", LINKS.split())
@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_links_are_not_followed(tmp_path, name, kind, overwrite):
    outside, path = tmp_path / "outside", tmp_path / "run"
    if kind == "file":
        outside.write_text("mine")
    elif kind == "folder":
        outside.mkdir()
        (outside / "a").write_text("mine")
        (outside / ".rnnjax").write_text("a\n")
    run = begin(path)
    (run.shared("training") / "elman").mkdir(parents=True)
    run.finish()
    (path / ".finished").unlink()
    if name == ".rnnjax":
        (path / name).unlink()
    if name == "metrics.jsonl":
        (path / name).unlink()
    (path / name).symlink_to(outside)
    before = contents(tmp_path)
    try:
        with locked(path):
            again = resume_or_begin(path, overwrite=overwrite)
            again.append("metrics.jsonl", [{"step": 1}, {"step": 2}])
            again.append_time(step=1)
            again.finish()
    except OSError as error:
        assert "symbolic link" in str(error) and "\n" not in str(error)
        assert contents(tmp_path) == before
    else:
        assert name == ".config.json.unfinished"  # it is removed, not followed
    assert {p: b for p, b in contents(tmp_path).items() if p.parts[0] == "outside"} == {
        p: b for p, b in before.items() if p.parts[0] == "outside"
    }
    assert outside.exists() == (kind != "nothing")


@pytest.mark.parametrize("name", [".lock", ".rnnjax", "config.json", "metrics.jsonl"])
def test_a_pipe_does_not_make_a_run_wait(tmp_path, name):
    begin(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"), locked(tmp_path):
        resume_or_begin(tmp_path).append("metrics.jsonl", [{"step": 1}])


def test_a_finished_run_without_its_config_is_not_thrown_away(tmp_path):
    begin(tmp_path).finish()
    (tmp_path / "config.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="there is no .*config.json; .*--overwrite"):
        resume_or_begin(tmp_path)
    assert contents(tmp_path) == before
    resume_or_begin(tmp_path, overwrite=True).finish()
    assert names(tmp_path) == [".finished", "config.json"]


def written(run):
    """Write a run to its end."""
    run.append("metrics.jsonl", [{"step": 1}, {"step": 2}])
    (run.file("params") / "d").mkdir(parents=True, exist_ok=True)
    (run.path / "params" / "d" / "0").write_text("arrays")
    run.write_json("summary.json", run.read_json("config.json")["length"])


def whole(path, length):
    """Whether a finished run of this length is there, with all that `written` wrote."""
    found = {str(p): data for p, data in contents(path).items()}
    wanted = {"metrics.jsonl", "summary.json", "config.json", ".finished", "params/d/0"}
    return wanted <= set(found) and found["summary.json"] == f"{length}\n".encode()


def overwrite_and_finish(path):
    new = Run.resume_or_create(path, Options(length=2), ignoring=(), overwrite=True)
    written(new)
    new.finish()


def overwrite_and_roll_back(path):
    Run.resume_or_create(path, Options(length=2), ignoring=(), overwrite=True).rollback()


def overwrite_the_overwriting(path):
    overwriting = Options(length=2, overwrite=True)
    written(Run.resume_or_create(path, overwriting, ignoring=(), overwrite=True))
    Run.resume_or_create(path, Options(length=3), ignoring=(), overwrite=True).rollback()


@pytest.mark.parametrize(
    "act", [overwrite_and_finish, overwrite_and_roll_back, overwrite_the_overwriting]
)
def test_after_a_kill_at_any_moment_one_run_is_whole(act, tmp_path):
    path = tmp_path / "run"
    old = Run.create(path, Options(length=1))
    written(old)
    old.finish()
    with moments(path, tmp_path / "copies") as left:
        act(path)
    left.append(path)
    assert len(left) > 20
    for copy in left:
        for length in (1, 2, 3):  # a plain command, of the old run, the new one or another
            place = tmp_path / "again" / f"{copy.name}-{length}"
            shutil.copytree(copy, place)
            try:
                run = Run.resume_or_create(place, Options(length=length), ignoring=("overwrite",))
            except FileExistsError as error:
                assert "already holds a run, of --length" in str(error)
            else:
                assert run.finished or length > 1  # a new run continues
            kept = [p for p in (place, place / ".replaced") if whole(p, 1) or whole(p, 2)]
            assert kept, f"{copy.name}: {sorted(map(str, contents(place)))}"
            shutil.rmtree(place)


def test_a_table_never_starts_a_formula(run):
    texts = ["=1+1", "+x", "-x", "@x", "'=", "''=", "'", "a", "", "\t=", "./mine.py:Cell", "-"]
    run.write_table("texts", [{"text": texts, "number": -np.arange(len(texts))}])
    lines = (run.path / "texts.csv").read_text().splitlines()[1:]
    assert not [line for line in lines if line.strip('"').startswith(("=", "+", "-", "@", "\t"))]
    assert run.read_table("texts")["text"].tolist() == texts
    assert run.read_table("texts")["number"].tolist() == [-float(i) for i in range(len(texts))]


DAMAGE = {
    "empty": b"",
    "brackets": b"[" * 200_000,
    "list": b"[1]",
    "string": b'"a"',
    "not UTF-8": b"\xff\xfe\x00",
    "number": b"1e999",
    "digits": b"9" * 10_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_one_line_that_names_them(tmp_path, damage):
    run = begin(tmp_path)
    for name in ("config.json", "summary.json", "rows.jsonl", "table.csv", ".rnnjax"):
        (tmp_path / name).write_bytes(DAMAGE[damage] + b"\n" * (name == "rows.jsonl"))
    readers = {
        "config.json": lambda: run.read_object("config.json"),
        "summary.json": lambda: run.read_object("summary.json"),
        "rows.jsonl": lambda: run.read_rows("rows.jsonl"),
    }
    if damage in ("empty", "not UTF-8"):
        readers["table.csv"] = lambda: run.read_table("table")
    if damage == "not UTF-8":
        readers[".rnnjax"] = lambda: resume_or_begin(tmp_path)
    for name, read in readers.items():
        with pytest.raises(OSError) as error:
            read()
        message = str(error.value)
        assert str(tmp_path / name) in message and "damaged" in message and "\n" not in message


def test_a_ragged_table_is_damaged(run):
    for text in ("a,b\n1\n", 'a\n"x\n', "a,b\n1,2,3\n"):
        Path(run.path / "t.csv").write_text(text)
        with pytest.raises(OSError, match=r"t\.csv is damaged: "):
            run.read_table("t")


@pytest.mark.parametrize("hidden", [(), (".rnnjax",)], ids=["listed", "unlisted"])
def test_a_list_of_what_to_delete_beside_a_run_deletes_nothing(tmp_path, hidden):
    """A process that discards a run has renamed its list, and the run is not finished."""
    path = tmp_path / "run"
    begin(path).finish()
    for name in hidden:
        (path / name).unlink()
    (path / ".discarded").write_text("config.json\nmetrics.jsonl\n")
    before = contents(path)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"\.discarded and .*, and no process leaves"):
            resume_or_begin(path, overwrite=overwrite)
        assert contents(path) == before
