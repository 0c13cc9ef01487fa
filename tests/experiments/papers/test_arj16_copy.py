"""The copying memory row: a small run, its numbers by hand, its verdict, its files and manners."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.experiment import readout, select
from rnnjax.runs import Run
from rnnjax.tasks import CopyMemory

pytestmark = pytest.mark.slow
arj16_copy = load(ROOT / "experiments" / "papers" / "arj16_copy.py")
TINY = arj16_copy.Config(
    lengths=(3,), rnn_features=4, lstm_features=3, steps=6, batch_size=4, seeds=2, clip=0.01
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("arj16_copy") / "run"
    return out, arj16_copy.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [*summary["lengths"]] == ["3"] and [*summary["lengths"]["3"]] == ["elman", "lstm"]
    for ending in ("png", "svg", "csv"):
        assert (out / f"loss.{ending}").stat().st_size > 100
    verdict = summary["verdict"]
    assert verdict["outcome"] == "quick run only" and "--lengths -2 is below 0" in verdict["reason"]
    table = Run(out).read_table("loss")
    assert [*dict.fromkeys(table["series"])] == ["RNN, tanh", "LSTM", "published: no memory"]
    line = select(table, series="published: no memory")
    assert line["update"].tolist() == [*range(7)]
    np.testing.assert_allclose(line["median"], 10 * math.log(8) / 23, rtol=1e-6)


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "loss.png").unlink()
    assert arj16_copy.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "loss.png").exists()


def test_the_losses_are_those_of_a_plain_loop(tiny_run):
    """A tanh network in a scan, with gradients cut and RMSprop as the authors wrote it."""
    out, summary = tiny_run
    task, cell = CopyMemory(3), TINY.make_cells()["elman"]

    @jax.jit
    @jax.value_and_grad
    def loss(params, batch):
        w, u, b = params.cell

        def step(h, now):
            x, target = now
            h = jnp.tanh(x @ w + h @ u + b)
            logs = jax.nn.log_softmax(h @ params.kernel + params.bias)
            return h, -logs[jnp.arange(len(target)), target].mean()

        start = jnp.zeros((batch.inputs.shape[1], 4))
        return jax.lax.scan(step, start, (batch.inputs, batch.targets))[1].mean()

    sample, curves = jax.jit(task.sample, static_argnums=1), []
    for seed in (0, 1):
        init_key, key = jax.random.split(jax.random.key(seed))
        params = readout.init(cell, task, init_key)
        squares = jax.tree.map(lambda p: np.full(p.shape, 1e-3), params)
        held_out = sample(jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))[0], 128)
        curve = [loss(params, held_out)[0]]
        for _ in range(6):
            key, now = jax.random.split(key)
            _, slope = loss(params, sample(now, 4))
            cut = jax.tree.map(lambda g: np.clip(g, -0.01, 0.01), slope)
            squares = jax.tree.map(lambda r, g: 0.9 * r + 0.1 * g**2, squares, cut)
            params = jax.tree.map(
                lambda p, g, r: jnp.asarray(p - 1e-3 * g / np.sqrt(r), jnp.float32),
                *(params, cut, squares),
            )
            curve.append(loss(params, held_out)[0])
        curves.append(curve)
    rows = select(Run(out).read_table("loss"), series="RNN, tanh")
    np.testing.assert_allclose(rows["median"], np.mean(curves, 0), rtol=1e-5)  # of two seeds
    want = np.median(np.array(curves)[:, 4:], 1) / task.chance
    np.testing.assert_allclose(summary["lengths"]["3"]["elman"]["second_half"], want, rtol=1e-5)


def test_kernels_are_drawn_as_glorot_does():
    config = arj16_copy.Config()
    for name, bound in (("elman", math.sqrt(6 / 160)), ("lstm", math.sqrt(6 / 80))):
        params = config.make_cells()[name].init(jax.random.key(0), 10)
        assert 0.99 * bound < np.abs(params.recurrent_kernel).max() <= bound
    forget = np.split(np.asarray(params.bias), 4)[1]
    assert (forget == 1).all() and params.bias.sum() == 40


def test_a_network_is_described_by_its_second_half_and_its_lowest_loss():
    task, updates = CopyMemory(200), np.array([0, 5000, 10_000, 15_000, 20_000])
    losses = task.chance * np.array([[20, 1.2, 1.04, 1.0, 0.98], [20, 2, 2, 0.5, 2]]).T
    found = arj16_copy.describe("lstm", task, updates, losses)
    assert found["plateau"] == pytest.approx(0.09452, abs=5e-6)
    np.testing.assert_allclose(found["second_half"], [0.99, 1.25])
    np.testing.assert_allclose(found["lowest"], [0.98, 0.5])
    assert found["reached_at"] == [10_000, np.inf]
    short = CopyMemory(100)  # where the LSTM is known to leave the plateau after 10,000 updates
    losses = losses * short.chance / task.chance
    found = arj16_copy.describe("lstm", short, updates, losses)
    np.testing.assert_allclose(found["second_half"], [1.04, 2])
    np.testing.assert_allclose(found["lowest"], [1.04, 2])
    found = arj16_copy.describe("elman", short, updates, losses)
    np.testing.assert_allclose(found["lowest"], [0.98, 0.5])


def test_the_published_plateaus():
    found = [round(CopyMemory(length).chance, 4) for length in (100, 200, 300, 500)]
    assert found == [0.1733, 0.0945, 0.0650, 0.0400]


def summary_of():
    """Return a summary of two networks of each kind that reproduces the claim."""
    of = {"plateau": 0.1, "second_half": [1.04, 0.96], "lowest": [0.9, 1], "reached_at": [9, 9]}
    return {"lengths": {length: {"elman": of, "lstm": of} for length in ("100", "200")}}


def test_the_verdict_follows_its_rule():
    usual = arj16_copy.Config()
    found = arj16_copy.verdict(usual, summary_of())
    assert found.outcome == "reproduced" and len(found.conditions) == 8
    changes = [
        ("at the plateau", "second_half", 1.06),
        ("at the plateau", "second_half", 0.94),
        ("never far below it", "lowest", 0.89),
    ]
    for broken, key, value in changes:
        for name, label in (("elman", "RNN, tanh"), ("lstm", "LSTM")):
            summary = json.loads(json.dumps(summary_of()))  # no list is shared
            summary["lengths"]["200"][name][key][0] = value
            found = arj16_copy.verdict(usual, summary)
            assert found.outcome == "not reproduced"
            failed = [condition for condition, holds in found.conditions.items() if not holds]
            assert failed == [f"{label}, T = 200: {broken}"]
    for fewer in ("steps", "seeds", "rnn_features", "lstm_features"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert arj16_copy.verdict(config, summary_of()).outcome == "quick run only", fewer
    for lengths, outcome in (((200, 300), "quick run only"), ((100, 200, 300), "reproduced")):
        config = dataclasses.replace(usual, lengths=lengths)
        assert arj16_copy.verdict(config, summary_of()).outcome == outcome


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--lengths 0 100", ("--lengths", "positive", "0 100")),
        ("--lengths 100 100", ("--lengths", "each once", "100 100")),
        ("--rnn-features 0", ("--rnn-features", "at least 1", "0")),
        ("--lstm-features 0", ("--lstm-features", "at least 1", "0")),
        ("--clip 0", ("--clip", "positive", "0")),
        ("--seeds 0", ("--seeds", "at least 1", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(arj16_copy, arguments, names)
