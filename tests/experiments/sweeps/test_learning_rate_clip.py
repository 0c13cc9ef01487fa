"""Learning rate and clip: the update by hand, members that stop, what the map is said to say."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from scripts import ROOT, load, without_figures

import rnnjax
from rnnjax.checkpoint import Checkpoints
from rnnjax.experiment import readout
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
sweep = load(ROOT / "experiments" / "sweeps" / "learning_rate_clip.py")

TINY = sweep.Config(
    cells=("elman",),
    tasks=("adding",),
    length=4,
    learning_rates=(0.05, 1e30),
    clips=(0.1, np.inf),
    features=3,
    steps=6,
    batch_size=2,
    seeds=2,
    seed=7,
    record_every=2,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, sweep.run(dataclasses.replace(TINY, out=out))


def test_the_update_is_clipped_momentum():
    """v = .9 v + g min(1, clip / |g|), w = w - rate v, in NumPy."""
    cell, task = rnnjax.Elman(3), TINY.make_task("adding")
    settings = {"learning_rate": 0.5, "clip": 0.1, "seed": 7}
    state = sweep.make_start(TINY, cell, task)(settings)
    step = jax.jit(sweep.make_train_step(TINY, cell, task))
    gradient = jax.jit(
        jax.grad(lambda p, batch: task.loss(readout.apply(cell, p, batch.inputs), batch))
    )
    weights, velocity = jax.tree.leaves(state.params), 0
    for key in jax.random.split(jax.random.key(1), 3):
        batch = task.sample(key, 2)
        found = jax.tree.leaves(gradient(state.params, batch))
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in found))
        scaled = [np.asarray(g) * min(1, 0.1 / norm) for g in found]
        before = velocity or [0] * len(scaled)
        velocity = [0.9 * v + g for v, g in zip(before, scaled, strict=True)]
        weights = [w - 0.5 * v for w, v in zip(weights, velocity, strict=True)]
        state, metrics = step(state, batch)
        assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5) and norm > 0.1
        for got, want in zip(jax.tree.leaves(state.params), weights, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


def test_a_run_writes_everything_it_promises(tiny_run, capsys):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    table = Run(out).read_table("members")
    assert table["seed"].tolist() == [7, 8] * 4
    assert table["clip"].tolist() == [0.1, 0.1, np.inf, np.inf] * 2
    np.testing.assert_allclose(table["loss_of_chance"], 6 * table["loss"], rtol=1e-5)
    for ending in ("png", "svg"):
        assert (out / f"adding.{ending}").stat().st_size > 1000
    assert sweep.run(dataclasses.replace(TINY, out=out)) == summary  # finished: left alone
    assert "is finished" in capsys.readouterr().out


def test_members_that_diverge_stop_alone_and_are_counted(tiny_run):
    out, summary = tiny_run
    table, rows = Run(out).read_table("members"), Run(out).read_table("settings")
    stopped = table["updates"] < 6
    assert stopped.tolist() == (table["learning_rate"] > 1).tolist()
    assert np.isnan(table["loss"][stopped]).all() and np.isfinite(table["loss"][~stopped]).all()
    assert rows["stopped"].tolist() == [0, 0, 2, 2] and np.isinf(rows["median"][2:]).all()
    assert (summary["adding"]["elman"]["stopped"], summary["adding"]["elman"]["members"]) == (4, 8)


def test_a_stopped_run_goes_on_to_the_same_bytes(tiny_run, tmp_path, monkeypatch):
    """With each member's own settings, and those that have stopped stopped."""
    monkeypatch.setattr(sweep, "run", without_figures(sweep.run))
    config = dataclasses.replace(TINY, out=tmp_path / "again", checkpoint_every=2)
    save = Checkpoints.save

    def stop(self, step, *saved):
        save(self, step, *saved)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep.run(config)
    assert not (config.out / "members.csv").exists()
    sweep.run(config)
    for name in ("members.csv", "settings.csv", "metrics.jsonl", "stopped.jsonl", "summary.json"):
        assert (config.out / name).read_bytes() == (tiny_run[0] / name).read_bytes(), name


@pytest.mark.parametrize(
    ("losses", "finding"),
    [
        ([0.1, 0.4, 0.1, 0.6], "wider"),
        ([0.1, 0.6, 0.1, 0.6], "as wide"),
        ([0.6, np.inf, 0.1, 0.6], "narrower"),
        ([0.6, np.inf, 0.5, 0.6], "nothing trained"),
    ],
)
def test_the_finding_counts_learning_rates(losses, finding):
    rows = {
        "learning_rate": np.array([0.05, 1e30] * 2),
        "clip": np.repeat([0.1, np.inf], 2),
        "median": np.array(losses),
        "stopped": np.array([0, 1, 0, 0]),
        "members": np.array([2] * 4),
    }
    found = sweep.conclude({"success": [1, 0, 0, 0]}, rows)
    assert (found["finding"], found["success"]) == (finding, 0.25)
    outcome = {"wider": "reproduced", "nothing trained": "inconclusive"}
    verdict = sweep.verdict(sweep.Config(), {"adding": {"elman": found}})
    assert verdict.outcome == outcome.get(finding, "not reproduced")
    for option, value in {"steps": 999, "seeds": 2, "features": 31, "length": 29}.items():
        small = dataclasses.replace(sweep.Config(), **{option: value})
        assert sweep.verdict(small, {"adding": {"elman": found}}).outcome == "quick run only"
    assert found["best"]["median"] == min(losses)
    assert found["trains"]["inf"] == ([0.05] if losses[2] < 0.5 else [])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--clips 1 10", ("--clips", "inf")),
        ("--clips inf 0", ("--clips", "positive", "0")),
        ("--clips inf 1 1", ("--clips", "once")),
        ("--learning-rates nan", ("--learning-rates", "positive", "nan")),
        ("--learning-rates inf", ("--learning-rates", "finite", "inf")),
        ("--momentum 1", ("--momentum", "[0, 1)", "1")),
        ("--tasks adding adding", ("--tasks", "once")),
        ("--length 3", ("--length", "at least 10", "3")),
        ("--cells transformer", ("--cells", "transformer", "gru")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(sweep, arguments, names)
