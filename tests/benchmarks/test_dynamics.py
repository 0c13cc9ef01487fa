"""benchmarks/dynamics.py times what it has checked, and says what it leaves out."""

import importlib
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.command_line import parse

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {"batches": 3, "batch_size": 2, "length": 40, "rounds": 1}


@pytest.fixture
def load(monkeypatch):
    """Import benchmarks by name, and forget them after the test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


class Mirror:
    """A stand-in for neurogym's task, whose trials are ours times a factor."""

    def __init__(self, task, factor):
        self.task, self.factor = task, factor

    def new_trial(self, ground_truth, coh):
        conditions = jax.eval_shape(self.task.draw, jax.random.key(0))
        conditions = type(conditions)(jnp.int32(ground_truth), jnp.float32(coh))
        batch = self.task.build(conditions, self.task.draw_epochs(jax.random.key(0)))
        self.ob, self.gt = np.asarray(batch.inputs) * self.factor, np.asarray(batch.targets)


@pytest.mark.slow
def test_without_neurogym_it_says_so(load, tmp_path, monkeypatch, capsys):
    module = load("dynamics")
    monkeypatch.setitem(sys.modules, "neurogym", None)
    monkeypatch.setattr(load("timing"), "DOCS", tmp_path / "docs" / "benchmarks.md")
    config = module.Config(tasks=("context", "long"), **SMALL, out=tmp_path, docs=True)
    rows = module.run(config)
    assert json.loads((tmp_path / "dynamics.json").read_text())["rows"] == rows
    assert [(r["task"], r["what"]) for r in rows] == [
        (name, what) for name in ("context", "long") for what in (module.CALLS, module.PROGRAM)
    ]
    assert all(row["times_faster"] is None and row["trials_per_s"] > 0 for row in rows)
    for text in (capsys.readouterr().out, (tmp_path / "docs" / "benchmarks.md").read_text()):
        assert "long without neurogym: neurogym is not installed." in text
        assert text.count("| context |") == 2


@pytest.mark.slow
def test_other_trials_are_not_timed(load, monkeypatch):
    module = load("dynamics")
    config = module.Config(tasks=("long",), **SMALL)
    task = module.our_task(config, "long", sigma=0)
    monkeypatch.setattr(module, "their_task", lambda *_, **__: Mirror(task, 1))
    module.check(config, "long")
    monkeypatch.setattr(module, "their_task", lambda *_, **__: Mirror(task, 1.01))
    with pytest.raises(AssertionError, match="long"):
        module.check(config, "long")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of other libraries are theirs
@pytest.mark.parametrize("name", ["anti", "perceptual", "context", "long"])
def test_trials_are_those_of_an_installed_neurogym(load, name):
    pytest.importorskip("neurogym")
    module = load("dynamics")
    module.check(module.Config(), name)


def test_a_batch_has_as_many_steps_as_the_sequences(load):
    module = load("dynamics")
    config = module.Config()
    counts = {name: module.trials_of_a_batch(config, name) for name in module.TASKS}
    assert counts["anti"] == round(1600 / 15) and counts["perceptual"] == round(1600 / 22)
    assert counts["long"] == 16
    task = module.our_task(config, "context")
    keys = jax.random.split(jax.random.key(0), 2000)
    epochs = jax.jit(jax.vmap(task.draw_epochs))(keys)
    assert counts["context"] == pytest.approx(1600 / epochs["decision"].end.mean(), abs=2)
    assert module.our_task(config, "long").total_length == 100


def test_the_verdict_is_about_calls_and_the_bound(load):
    module = load("dynamics")
    rows = [
        {"task": task, "what": what, "times_faster": faster}
        for task, what, faster in (
            *(("anti", module.CALLS, 10.0), ("anti", module.PROGRAM, 3.0)),
            *(("long", module.CALLS, 9.9), ("context", module.CALLS, None)),
        )
    ]
    within, beyond = module.verdicts(rows)
    assert within == "anti: 10.0 times as fast as neurogym, call by call: within the bound of 10"
    assert beyond == "long: 9.9 times as fast as neurogym, call by call: beyond the bound of 10"


def test_ratios_are_of_neurogyms_time(load, monkeypatch):
    module = load("dynamics")
    ways = {module.CALLS: None, module.PROGRAM: None}
    monkeypatch.setattr(module, "our_ways", lambda *_: dict(ways))
    monkeypatch.setattr(module, "their_way", lambda *_: None)
    monkeypatch.setattr(module, "check", lambda *_: None)
    times = {module.CALLS: [2.0, 1.0, 9.0], module.PROGRAM: [0.5], module.THEIRS: [30.0]}
    monkeypatch.setattr(load("timing"), "interleaved", lambda *_, **__: times)
    rows, reason = module.measure(module.Config(), "long")
    assert reason is None
    assert [row["times_faster"] for row in rows] == [15, 60, 1]
    assert [row["trials_per_s"] for row in rows] == [8000, 32000, pytest.approx(16000 / 30)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--tasks anti anti", "--tasks must name some of anti, perceptual, context, long, each"),
        ("--length 39", "--length must be at least 40, got 39"),
        ("--rounds 0", "--rounds must be at least 1, got 0"),
        (f"--out {__file__}", "--out must be a directory, got the file"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, load, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(load("dynamics").Config, arguments.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
