"""A row in a process of its own: finished, failed, stopped at its limit, terminated, resumed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from scripts import ROOT

from rnnjax.runs import locked
from rnnjax.scorecard import Row, load_record, run_row

SCRIPT = '''"""Does it work?"""

import dataclasses, os, pathlib, sys, time
from rnnjax.experiment import Experiment, Verdict
from rnnjax.experiment.options import SeedOptions


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Run."""

    steps: int = 5
    """Steps."""


def measure(config, run):
    here = pathlib.Path(__file__).parent
    if (here / "fail").exists():
        raise OSError("no such luck")
    if (here / "wait").exists():
        (here / "waiting").touch()
        time.sleep(600)
    print("measured")
    return {"steps": config.steps}


def verdict(config, summary):
    return Verdict.judge({"it works": True}).unless_quick(config, "steps")


run = Experiment("script", Config, measure, verdict, lambda run: None)
if __name__ == "__main__":
    run.main()
'''


@pytest.fixture
def row(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    texts = {"source": "A 1999", "published": "1", "figure": "loss"}
    return Row("a-1", folder / "script.py", **texts, minutes=(5.0, 5.0), quick=("--steps", "3"))


def mark(row, name):
    path = row.script.parent / name
    path.touch()
    return path


@pytest.mark.slow
def test_a_finished_row_is_not_run_again(row, tmp_path):
    full = run_row(row, tmp_path / "full", full=True)
    assert (full.outcome, full.conditions, full.full) == ("reproduced", {"it works": True}, True)
    assert full.command == "python experiments/script.py" and full.seeds == "0 to 3"
    assert full.versions.startswith("Python 3.") and "jax 0." in full.versions
    assert 0 < full.seconds < 300 and full.commit == ""
    assert load_record(tmp_path / "full" / "a-1.json") == full
    assert "measured" in (tmp_path / "full" / "a-1.log").read_text()
    mark(row, "fail")
    assert run_row(row, tmp_path / "full", full=True) == full
    (row.script.parent / "fail").unlink()
    quick = run_row(row, tmp_path / "quick", full=False)
    assert (quick.outcome, quick.full) == ("quick run only", False)
    assert quick.reason == "--steps 3 is below 5"
    assert quick.command == "python experiments/script.py --steps 3"


@pytest.mark.slow
def test_a_failed_row_says_why_and_can_be_run_again(row, tmp_path):
    failing = mark(row, "fail")
    found = run_row(row, tmp_path, full=True)
    assert (found.outcome, found.reason) == ("failed", "error: no such luck")
    failing.unlink()
    assert run_row(row, tmp_path, full=True).outcome == "reproduced"
    with locked(tmp_path / "b" / "a-1"):
        assert run_row(row, tmp_path / "b", full=True).outcome == "runs elsewhere"


@pytest.mark.slow
def test_a_row_is_stopped_at_its_limit(row, tmp_path, monkeypatch):
    monkeypatch.setattr("rnnjax.scorecard.running.GRACE", 0)
    mark(row, "wait")
    object.__setattr__(row, "minutes", (1e-3, 1e-3))
    found = run_row(row, tmp_path, full=True)
    assert found.outcome == "stopped at its limit" and not found.finished
    assert found.seconds < 60


@pytest.mark.slow
def test_terminating_the_scorecard_terminates_the_row(row, tmp_path):
    mark(row, "wait")
    code = (
        "import sys; from pathlib import Path; from rnnjax.scorecard import Row, run_row\\n"
        "texts = {'source': 'A', 'published': '1', 'figure': 'loss'}\\n"
        "row = Row('a-1', Path(sys.argv[1]), **texts, minutes=(5.0, 5.0))\\n"
        "run_row(row, Path(sys.argv[2]), full=True)"
    ).replace("\\n", "\n")
    command = [sys.executable, "-c", code, str(row.script), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    waiting = row.script.parent / "waiting"
    until = time.monotonic() + 120
    while not waiting.exists():
        assert parent.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    _, printed = parent.communicate(timeout=120)
    assert parent.returncode and "TerminatedError" in printed
    with locked(tmp_path / "out" / "a-1"):  # nobody holds it any more
        pass
