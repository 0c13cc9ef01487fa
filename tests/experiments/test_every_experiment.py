"""What holds for every experiment file: it explains itself, quickly, and shares its manners."""

import dataclasses
import os
import subprocess
import sys

import pytest
from scripts import ROOT, load

pytestmark = pytest.mark.slow

SCRIPTS = sorted(ROOT.glob("experiments/**/*.py"))
NAMES = [path.stem for path in SCRIPTS]


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_it_says_what_it_claims_and_how_it_is_run(path):
    module = load(path)
    place = path.relative_to(ROOT).as_posix()
    assert module.__doc__ and f"python {place}" in module.__doc__
    assert "Claim" in module.__doc__
    assert place in (ROOT / "README.md").read_text()
    assert dataclasses.is_dataclass(module.Config) and callable(module.run)
    assert {"out", "overwrite", "redraw"} <= {f.name for f in dataclasses.fields(module.Config)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        module.Config().out = None


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_help_is_quick_and_names_every_option(path):
    def children():
        times = os.times()  # processor seconds: they do not depend on what else the machine does
        return times.children_user + times.children_system

    seconds = []
    for _ in range(2):
        start = children()
        command = [sys.executable, "-W", "error", str(path), "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        seconds.append(children() - start)
        assert (done.returncode, done.stderr) == (0, "")
        if seconds[-1] < 1.5:
            break
    assert min(seconds) < 1.5
    for field in dataclasses.fields(load(path).Config):
        assert "--" + field.name.replace("_", "-") in done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_an_unknown_option_is_one_line(path, tmp_path):
    command = [sys.executable, str(path), "--no-such-option", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown option --no-such-option")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
