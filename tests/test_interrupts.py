"""Ctrl-C while a script of rnnjax imports what it needs: one line, and exit code 130."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

from rnnjax import interrupts

SCRIPTS = sorted(
    path
    for folder in interrupts.FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)
INTERRUPTED = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
"""A module in the place of another one: Ctrl-C while it is imported."""


def run(place, *command, interrupted="jax"):
    """Run Python, which is interrupted while it imports a module."""
    (place / "first").mkdir(exist_ok=True)
    (place / "first" / f"{interrupted}.py").write_text(INTERRUPTED)
    path = os.pathsep.join((str(place / "first"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, env=environment, cwd=place, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command",
    [
        [ROOT / "experiments" / "gates.py", "--help"],
        [ROOT / "experiments" / "applications" / "sentiment.py"],
        [ROOT / "benchmarks" / "fuzz.py"],
        [ROOT / "benchmarks" / "layers.py"],
        ["-m", "rnnjax.sweep", "--help"],
        ["-W", "error", "-m", "rnnjax.sweep", "work", "--out", "a"],
    ],
    ids=lambda command: "-".join(Path(word).name for word in map(str, command)),
)
def test_an_interrupt_during_the_imports_is_one_line(command, tmp_path):
    done = run(tmp_path, *command)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "error: interrupted\n")
    assert done.stdout == ""


def test_so_is_one_in_what_is_imported_later(tmp_path):
    done = run(tmp_path, ROOT / "experiments" / "gates.py", "--steps", "1", interrupted="tyro")
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_another_error_keeps_its_traceback(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "rnnjax"\n')
    script = tmp_path / "experiments" / "mine.py"
    script.write_text("import rnnjax\nraise KeyError('mine')\n")
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "KeyError: 'mine'" in done.stderr
    assert "Traceback (most recent call last)" in done.stderr


def programs_of_ones_own(place):
    """Make programs that use the library; none of them is one of rnnjax's own."""
    folders = "plain", "experiments", "project/experiments"
    for folder in (*folders, "package"):
        (place / folder).mkdir(parents=True)
    (place / "project" / "pyproject.toml").write_text('[project]\nname = "mine"\n')
    (place / "package" / "__init__.py").write_text("import rnnjax\n")
    (place / "package" / "__main__.py").touch()
    paths = [
        place / folder / "mine.py" for folder in ("plain", "experiments", "project/experiments")
    ]
    for path in paths:
        path.write_text("import rnnjax\n")
    return [*([path] for path in paths), ["-m", "package"], ["-c", "import rnnjax"]]


@pytest.mark.parametrize("which", range(5))
def test_in_a_program_of_ones_own_nothing_changes(which, tmp_path):
    command = programs_of_ones_own(tmp_path)[which]
    done = run(tmp_path, *command)
    assert done.returncode == -signal.SIGINT  # as Python ends a process that was interrupted
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("\nKeyboardInterrupt\n")


def test_nothing_changes_here():
    assert not interrupts.own_program() and sys.excepthook.__module__ != "rnnjax.interrupts"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_imports_rnnjax_before_anything_slow(path):
    """Before it there are only the standard library and `timing`, which imports nothing else."""
    assert interrupts.is_own_script(path)
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    tops = [name.partition(".")[0] for name in names]
    before = tops[: tops.index("rnnjax")] if "rnnjax" in tops else tops
    assert {*before} <= {*sys.stdlib_module_names, "timing"}


def test_a_copy_of_the_repository_is_rnnjax_too(tmp_path):
    (tmp_path / "benchmarks" / "deep").mkdir(parents=True)
    script = tmp_path / "benchmarks" / "deep" / "mine.py"
    assert not interrupts.is_own_script(script)
    (tmp_path / "pyproject.toml").write_bytes(b"\xff")
    assert not interrupts.is_own_script(script)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert interrupts.is_own_script(script)
    assert not interrupts.is_own_script(tmp_path / "tests" / "mine.py")
