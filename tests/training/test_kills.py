"""Runs that are killed at random times and resumed equal uninterrupted ones."""

import shutil
import sys

import jax.numpy as jnp
import pytest
from scripts import ROOT, load

from rnnjax.checkpoint import Checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield load(ROOT / "benchmarks" / "kills.py")
    sys.modules.pop("timing", None)


def test_ten_kills_leave_no_trace(kills, tmp_path, capsys):
    """The short version of benchmarks/kills.py, which has the numbers for 200."""
    config = kills.Config(
        kills=10, cells=("gru",), kills_of_a_run=5, steps=60, checkpoint_every=5, out=tmp_path
    )
    found = kills.run(config)
    assert found["kills"] >= 10
    assert found["bit_identical"] == found["kills"], found
    assert {name for row in found["runs"] for name in row["differ"]} == set()
    assert (tmp_path / "kills.json").exists()
    assert capsys.readouterr().out.startswith("10 of 10 kills left no trace, in ")


def test_every_changed_byte_is_found(kills, tmp_path):
    def run(name, number=1, text="1", more="1"):
        out = tmp_path / name
        with Checkpoints(out / "training" / "x", keep=1) as saved:
            saved.save(1, {"a": jnp.arange(3) + number}, {}, 0.0)
        (out / "metrics.jsonl").write_text(f"{text} {out}")
        (out / "times.jsonl").write_text(more)
        return kills.fingerprint(out)

    whole = run("whole")
    assert set(whole) == {"metrics.jsonl", "training/x/steps/1"}
    assert run("same", more="2") == whole  # at another time, in another folder
    changes = {"numbers": {"number": 2}, "rows": {"text": "2"}}
    for name, change in changes.items():
        got = run(name, **change)
        assert [n for n in whole if got[n] != whole[n]] == [sorted(whole)[name == "numbers"]]
    shutil.rmtree(tmp_path / "same" / "training")
    assert kills.fingerprint(tmp_path / "same") != whole


def test_killed_failed_and_finished_processes_are_told_apart(kills, tmp_path):
    def python(code):
        return [sys.executable, "-c", code]

    log = tmp_path / "log"
    assert kills.killed(python("import time; time.sleep(600)"), 0.1, log) is True
    assert kills.killed(python("pass"), 600, log) is False
    assert kills.finish(python("print('said')"), log) > 0
    assert "said" in log.read_text()
    for wait in (lambda c: kills.killed(c, 600, log), lambda c: kills.finish(c, log)):
        with pytest.raises(RuntimeError, match="exit code 3"):
            wait(python("raise SystemExit(3)"))
