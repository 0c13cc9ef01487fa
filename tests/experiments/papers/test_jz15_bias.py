"""The forget bias row: a small run, its numbers by hand, its verdict, its files and manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax.cells.initializers import Uniform
from rnnjax.experiment import readout, select
from rnnjax.runs import Run
from rnnjax.tasks import TemporalOrder

pytestmark = pytest.mark.slow
jz15_bias = load(ROOT / "experiments" / "papers" / "jz15_bias.py")
TINY = jz15_bias.Config(length=10, features=3, steps=6, batch_size=4, seeds=2)
NETWORKS = ["LSTM, bias 0", "LSTM, bias 1", "GRU"]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("jz15_bias") / "run"
    return out, jz15_bias.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [*summary["networks"]] == NETWORKS and summary["chance"] == pytest.approx(np.log(4))
    for entry in summary["networks"].values():
        assert entry["updates_to_learn"] == [np.inf] * 2 and len(entry["final_loss"]) == 2
    for name in ("loss", "learned"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    table = Run(out).read_table("learned")
    assert table["update"].tolist() == [*range(7)] * 3 and (table["share"] == 0).all()


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "learned.png").unlink()
    assert jz15_bias.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "learned.png").exists()


def test_the_losses_are_those_of_a_plain_loop(tiny_run):
    """The LSTM with bias 1: draws with bias 0, one added to its forget gates, and a scan."""
    out, summary = tiny_run
    drawn = {"kernel_init": Uniform(), "recurrent_kernel_init": Uniform()}
    task, cell = TemporalOrder(10), rnnjax.LSTM(3, forget_bias=0.0, **drawn)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    @jax.jit
    @jax.value_and_grad
    def loss(params, batch):
        w, u, b = params.cell

        def step(state, x):
            c, h = state
            i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (c, jax.nn.sigmoid(o) * jnp.tanh(c)), None

        zero = jnp.zeros((batch.inputs.shape[1], 3))
        (_, h), _ = jax.lax.scan(step, (zero, zero), batch.inputs)
        logs = jax.nn.log_softmax(h @ params.kernel + params.bias)
        return -logs[np.arange(len(logs)), batch.targets[-1]].mean()

    @jax.jit
    def descend(params, slope, opt_state):
        updates, opt_state = optimizer.update(slope, opt_state)
        return optax.apply_updates(params, updates), opt_state

    sample, curves = jax.jit(task.sample, static_argnums=1), []
    for seed in (0, 1):
        init_key, key = jax.random.split(jax.random.key(seed))
        params = readout.init(cell, task, init_key)
        params = params._replace(cell=params.cell._replace(bias=params.cell.bias.at[3:6].add(1.0)))
        opt_state = optimizer.init(params)
        held_out = sample(jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))[0], 256)
        curve = [loss(params, held_out)[0]]
        for _ in range(6):
            key, now = jax.random.split(key)
            _, slope = loss(params, sample(now, 4))
            params, opt_state = descend(params, slope, opt_state)
            curve.append(loss(params, held_out)[0])
        curves.append(np.array(curve) / np.log(4))  # over chance
    rows = select(Run(out).read_table("loss"), network="LSTM, bias 1")
    np.testing.assert_allclose(rows["median"], np.mean(curves, 0), rtol=1e-4)  # of two seeds
    final = summary["networks"]["LSTM, bias 1"]["final_loss"]
    np.testing.assert_allclose(final, [curve[-1] for curve in curves], rtol=1e-4)


def test_a_network_has_learned_when_its_loss_is_first_below_a_tenth():
    updates = np.array([0, 50, 100, 150])
    losses = np.array([[1, 0.2, 0.09, 0.3], [1, 0.9, 0.8, 0.1], [0.01, 1, 1, 1]]).T
    assert jz15_bias.updates_to_learn(updates, losses).tolist() == [100, np.inf, 0]


def summary_of():
    """Return a summary of four networks of each kind that reproduces the claim."""
    updates = {"LSTM, bias 0": [1800, 1900, 1900, np.inf], "LSTM, bias 1": [900, 1100, 1100, 1950]}
    updates |= {"GRU": [500, 500, 500, 500]}
    entries = {
        name: {"updates_to_learn": of, "final_loss": [0.0] * 4} for name, of in updates.items()
    }
    return {"chance": np.log(4), "networks": entries}


def test_the_verdict_follows_its_rule():
    usual = jz15_bias.Config()
    found = jz15_bias.verdict(usual, summary_of())
    assert found.outcome == "reproduced" and len(found.conditions) == 3
    zero, one, gru = NETWORKS
    mixed = {zero: [800, 1000, np.inf, np.inf], one: [900, 1100, 100, 100]}
    changes = [
        ("there is a gap", {gru: [1900, 1900, 1900, 1900]}),
        ("at most half of the gap", {one: [1150, 1250, 1250, 1250]}),
        ("three quarters of the pairs", mixed),
    ]
    for broken, changed in changes:
        summary = summary_of()
        for network, updates in changed.items():
            summary["networks"][network]["updates_to_learn"] = updates
        found = jz15_bias.verdict(usual, summary)
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert found.outcome == "not reproduced" and len(failed) == 1 and broken in failed[0]
    never = summary_of()
    for network in NETWORKS:
        never["networks"][network]["updates_to_learn"] = [np.inf] * 4
    assert jz15_bias.verdict(usual, never).outcome == "not reproduced"
    for fewer in ("steps", "seeds", "features", "length"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert jz15_bias.verdict(config, summary_of()).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--length 9", ("--length", "at least 10", "9")),
        ("--features 0", ("--features", "at least 1", "0")),
        ("--steps 0", ("--steps", "at least 1", "0")),
        ("--learning-rate 0", ("--learning-rate", "positive", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(jz15_bias, arguments, names)
