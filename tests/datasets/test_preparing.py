"""Preparation under interruption, damage and concurrent processes."""

import itertools
import os
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rnnjax.datasets import digits


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    digits.prepare(directory)
    return directory


@pytest.fixture(scope="module")
def source():
    bunch: Any = load_digits()
    return bunch.images, bunch.target


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def files(directory):
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_prepare_is_silent_writes_once_and_leaves_nothing_else(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RNNJAX_DATA", str(tmp_path / "new"))
    directory = digits.prepare()
    assert directory == tmp_path / "new" / "sklearn_digits" / "1.0.0"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sklearn_digits"]
    before = files(directory)
    assert digits.prepare() == directory and files(directory) == before
    assert capfd.readouterr() == ("", "")


def test_without_data_dir_the_cache_of_the_user_is_used(tmp_path, monkeypatch):
    monkeypatch.delenv("RNNJAX_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert digits.prepare().is_relative_to(tmp_path / ".cache" / "rnnjax" / "data")


@pytest.mark.parametrize("blow", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_preparation_leaves_nothing_and_the_next_one_succeeds(
    blow, tmp_path, monkeypatch
):
    from rnnjax.datasets.digits.builder import SklearnDigits

    def interrupted(self, rows):
        yield from enumerate(itertools.islice(rows, 700))
        raise blow

    with monkeypatch.context() as patch:
        patch.setattr(SklearnDigits, "_generate_examples", interrupted)
        with pytest.raises(type(blow)):
            digits.prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(digits.load("train", tmp_path)[1]) == 1442


@pytest.mark.slow
def test_a_killed_preparation_is_not_mistaken_for_a_finished_one(tmp_path):
    killed = python(
        "import os, sys; from rnnjax.datasets import digits\n"
        "from rnnjax.datasets.digits import builder\n"
        "def killed(self, rows):\n"
        "    yield 0, next(rows)\n"
        "    os._exit(9)\n"
        "builder.SklearnDigits._generate_examples = killed\n"
        "digits.prepare(sys.argv[1])",
        tmp_path,
    )
    assert killed.communicate()[0] == "" and killed.returncode == 9
    assert [path.name[:11] for path in tmp_path.iterdir()] == [".preparing-"]
    assert len(digits.load("test", tmp_path)[1]) == 355


@pytest.mark.slow
def test_two_processes_prepare_at_once(tmp_path):
    code = (
        "import pathlib, sys, time; from rnnjax.datasets import digits, preparing\n"
        "root, me, rival = pathlib.Path(sys.argv[1]), *sys.argv[2:]\n"
        "rename = preparing.os.rename\n"
        "def meet(*paths):\n"  # both have prepared before either renames
        "    (root / me).touch()\n"
        "    deadline = time.monotonic() + 600\n"
        "    while not (root / rival).exists() and time.monotonic() < deadline: time.sleep(0.01)\n"
        "    rename(*paths)\n"
        "preparing.os.rename = lambda a, b: (rename if '.preparing-' in str(b) else meet)(a, b)\n"
        "print(digits.load('train', root / 'data')[1].sum())"
    )
    rivals = [python(code, tmp_path, "a", "b"), python(code, tmp_path, "b", "a")]
    expected = f"{digits.load('train', tmp_path / 'alone')[1].sum()}\n"
    assert [rival.communicate(timeout=1200)[0] for rival in rivals] == [expected] * 2
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["sklearn_digits"]


@pytest.mark.parametrize(
    ("name", "kept"),  # None: the file is missing, else the part of it that is left
    [("dataset_info.json", None), ("dataset_info.json", 0.5), ("features.json", None)]
    + [("array_record", kept) for kept in (None, 0, 0.2, 0.5, 0.999)],
)
def test_damage_names_the_directory_to_delete(name, kept, data_dir, tmp_path):
    directory = digits.prepare(data_dir)
    copy = tmp_path / directory.relative_to(data_dir)
    shutil.copytree(directory, copy)
    (path,) = (p for p in copy.iterdir() if name in p.name and "-test" not in p.name)
    whole = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(RuntimeError, match="delete it, and it is prepared again") as caught:
        digits.load("train", tmp_path)
    assert str(copy) in str(caught.value) and "\n" not in str(caught.value)
    assert files(copy).keys() >= files(directory).keys() - {path.name}  # nothing was deleted


@pytest.mark.slow
def test_after_the_damaged_directory_is_deleted_it_is_prepared_again(data_dir, tmp_path):
    directory = digits.prepare(tmp_path)
    (directory / "dataset_info.json").unlink()
    with pytest.raises(RuntimeError, match="dataset_info.json is missing"):
        digits.prepare(tmp_path)
    shutil.rmtree(directory)
    (again, _), (before, _) = (digits.load("train", root) for root in (tmp_path, data_dir))
    np.testing.assert_array_equal(again, before)


def test_a_directory_that_cannot_be_written_is_not_called_damaged(tmp_path, monkeypatch):
    rename = os.rename

    def refused(source, target):
        if ".preparing-" not in str(target):
            raise PermissionError(f"no right to write {target}")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError, match="no right to write"):
        digits.prepare(tmp_path)
