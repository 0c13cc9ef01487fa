"""An existing run: the same arguments resume it, others are refused."""

import shutil
from pathlib import Path

import pytest
from moments import moments
from run_directories import Options, begin, contents, names, resume_or_begin

from rnnjax.runs import Run


def test_only_a_run_of_the_same_arguments_is_resumed(tmp_path):
    path = tmp_path / "run"
    assert not begin(path).resuming
    before = contents(path)
    for changes in ({}, {"keep": 7}):
        assert resume_or_begin(path, **changes).resuming
    for changes, message in {
        (
            "length",
            3,
        ): "of --length None, not 3; give another directory, the same arguments to resume",
        ("cells", ("elman",)): "of --cells elman grü, not elman; give",
        ("rate", 1.0): "of --rate 0.003, not 1.0; give",
    }.items():
        with pytest.raises(FileExistsError, match=f"already holds a run, {message}"):
            resume_or_begin(path, **dict([changes]))
    assert contents(path) == before
    (path / "config.json").write_text('{"cells": ')
    with pytest.raises(FileExistsError, match=r"config.json is damaged: .*, or --overwrite$"):
        resume_or_begin(path)
    assert not resume_or_begin(path, overwrite=True).resuming


def test_the_same_overwriting_command_resumes(tmp_path):
    path = tmp_path / "run"
    begin(path).finish()
    new = resume_or_begin(path, overwrite=True)  # finished: it is replaced
    assert not new.resuming and names(path) == [".replaced", "config.json"]
    new.append("metrics.jsonl", [{"step": 1}])
    again = resume_or_begin(path, overwrite=True)  # the same command resumes
    assert again.resuming and again.read_rows("metrics.jsonl") == [{"step": 1}]
    assert resume_or_begin(path).resuming  # and so does the command without --overwrite
    other = resume_or_begin(path, overwrite=True, length=3)
    assert not other.resuming and not (path / "metrics.jsonl").exists()
    other.finish()
    assert names(path) == [".finished", "config.json"]
    begin(tmp_path / "unasked")
    assert not resume_or_begin(tmp_path / "unasked", overwrite=True).resuming


def test_a_run_killed_while_it_is_created_is_created_again(tmp_path):
    path = tmp_path / "run"
    begin(path).finish()
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
            except FileExistsError as error:  # the old run has not been changed
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
def test_the_list_of_written_files_may_be_cut_off(text, tmp_path):
    (tmp_path / ".rnnjax").write_text(text)
    run = begin(tmp_path)
    assert run.read_json("config.json")["length"] is None
    assert resume_or_begin(tmp_path).resuming
    assert set((tmp_path / ".rnnjax").read_text().splitlines()) >= {"config.json", "metrics.jsonl"}


def test_lines_appended_twice_stay_or_are_corrected(tmp_path):
    path = tmp_path / "run"
    rows = [{"step": step, "loss": step / 3} for step in range(6)]
    begin(path).append("rows.jsonl", rows[:4])
    whole = (path / "rows.jsonl").read_bytes()
    for damage in (whole, whole[:-5], whole[:7], b"", whole.replace(b"3", b"4"), whole + b"{}\n"):
        (path / "rows.jsonl").write_bytes(damage)
        run = resume_or_begin(path)
        run.append("rows.jsonl", rows[:2])
        if damage.startswith(whole):
            assert (path / "rows.jsonl").read_bytes() == damage  # nothing is lost
        run.append("rows.jsonl", rows[2:4])
        run.append("rows.jsonl", [])
        assert (path / "rows.jsonl").read_bytes()[: len(whole)] == whole
        run.finish()
        assert (path / "rows.jsonl").read_bytes() == whole
        (path / ".finished").unlink()
    (path / "times.jsonl").write_text('{"cut o')
    resume_or_begin(path).append_time(step=1)
    assert (path / "times.jsonl").read_text().startswith('{"cut o\n{"step": 1, ')
