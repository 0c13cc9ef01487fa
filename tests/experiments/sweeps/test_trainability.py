"""Trainability: padded members are networks of their own length, drawn with their own settings."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scripts import ROOT, load

import rnnjax
from rnnjax import tasks
from rnnjax.cells.initializers import Orthogonal
from rnnjax.runs import Run

pytestmark = pytest.mark.slow
sweep = load(ROOT / "experiments" / "sweeps" / "trainability.py")

TINY = sweep.Config(
    cells=("elman", "gru"),
    lengths=(12, 10),
    gains=(0.5, 1.0),
    forget_biases=(0.0, 2.0),
    features=3,
    steps=4,
    batch_size=2,
    seeds=2,
    seed=5,
    record_every=2,
)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, sweep.run(dataclasses.replace(TINY, out=out))


def test_a_member_is_a_network_of_its_own_length_and_settings():
    """One update against a cell with these settings, the task's own batch, and plain Adam."""
    settings = {"length": 10, "gain": 0.5, "forget_bias": 2.0, "seed": 5}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(TINY.learning_rate))
    state = jax.jit(sweep.make_start(TINY, "gru", optimizer))(settings)
    head_key, cell_key, _ = jax.random.split(jax.random.key(5), 3)
    cell = rnnjax.GRU(3, forget_bias=2.0, recurrent_kernel_init=Orthogonal(0.5))
    drawn = jax.jit(cell.init, static_argnums=1)(cell_key, 6)
    for got, want in zip(state.params.cell, drawn, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(
        state.params.kernel, jax.random.normal(head_key, (3, 4)) / 3**0.5, rtol=1e-6
    )

    task = tasks.TemporalOrder(10)
    batch = task.sample(jax.random.key(8), 2)

    def loss_fn(params):
        carry, hidden = cell.initial_carry((2,)), None
        for x in batch.inputs:
            carry = cell.step(params.cell, carry, cell.project(params.cell, x))
            hidden = cell.output(carry)
        logits = jax.nn.log_softmax(hidden @ params.kernel + params.bias)
        return -jnp.mean(logits[jnp.arange(2), batch.targets[-1]])

    loss, gradient = jax.value_and_grad(loss_fn)(state.params)
    updates, _ = optimizer.update(gradient, state.opt_state)
    got, metrics = jax.jit(sweep.make_train_step(TINY, "gru", optimizer))(state, jax.random.key(8))
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert metrics["grad_norm"] == pytest.approx(norm(gradient), rel=1e-4)
    want = optax.apply_updates(state.params, updates)
    for a, b in zip(jax.tree.leaves(got.params), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    table = Run(out).read_table("members")
    counts = {cell: int(np.sum(table["cell"] == cell)) for cell in ("elman", "gru")}
    assert counts == {"elman": 2 * 2 * 2, "gru": 2 * 2 * 2 * 2}
    assert np.isnan(table["forget_bias"][table["cell"] == "elman"]).all()
    np.testing.assert_allclose(table["loss_of_chance"], table["loss"] / np.log(4), rtol=1e-5)
    for name in ("gated", "by_length"):
        assert (out / f"{name}.png").stat().st_size > 1000
    assert set(summary["gru"]["trains"]) == {"12", "10"}


def test_figures_can_be_redrawn_from_the_tables(tiny_run):
    out, summary = tiny_run
    before = {path: path.read_bytes() for path in out.glob("*.svg")}
    for path in before:
        path.unlink()
    assert sweep.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert len(before) == 2 and {path: path.read_bytes() for path in before} == before


def norm(tree):
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def rows_of(medians, **axes):
    from rnnjax import training

    settings = training.grid(**axes)
    rest = {"median": np.array(medians), "stopped": np.zeros(len(medians), int)}
    return settings | rest | {"members": np.full(len(medians), 2)}


@pytest.mark.parametrize(
    ("medians", "finding"),
    [
        ([0.9, 0.1, 0.9, 0.1], "a forget bias helps"),  # gains 0.5 and 1, each bias 0 and 2
        ([0.1, 0.1, 0.9, 0.1], "a forget bias helps"),
        ([0.1, 0.1, 0.1, 0.9], "it does not"),
        ([0.1, 0.1, 0.9, 0.9], "it does not"),
    ],
)
def test_the_finding_on_a_gated_cell(medians, finding):
    rows = rows_of(medians, length=[10], gain=[0.5, 1.0], forget_bias=[0.0, 2.0])
    found = sweep.conclude("gru", rows)
    assert found["finding"] == finding
    outcome = "reproduced" if finding == "a forget bias helps" else "not reproduced"
    assert sweep.verdict(sweep.Config(), {"gru": found}).outcome == outcome
    for option, value in {"steps": 499, "seeds": 1, "features": 31, "lengths": (20, 79)}.items():
        small = dataclasses.replace(sweep.Config(), **{option: value})
        assert sweep.verdict(small, {"gru": found}).outcome == "quick run only"


@pytest.mark.parametrize(
    ("medians", "finding"),
    [([0.9, 0.1, 0.1, 0.1], "the window narrows"), ([0.1, 0.1, 0.1, 0.9], "it does not")],
)
def test_the_finding_on_elman(medians, finding):
    rows = rows_of(medians, length=[12, 10], gain=[0.5, 1.0])
    found = sweep.conclude("elman", rows)
    assert found["finding"] == finding
    outcome = "reproduced" if finding == "the window narrows" else "not reproduced"
    assert sweep.verdict(sweep.Config(), {"elman": found}).outcome == outcome
    assert found["trains"]["10"]["None"] == [
        g for g, m in zip((0.5, 1.0), medians[2:], strict=True) if m < 0.5
    ]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--forget-biases 1 2", ("--forget-biases", "0 among")),
        ("--forget-biases 0 nan", ("--forget-biases", "finite", "nan")),
        ("--gains 0", ("--gains", "positive", "0")),
        ("--lengths 20 20", ("--lengths", "once")),
        ("--lengths 3", ("--lengths", "at least 10", "3")),
        ("--clip 0", ("--clip", "positive", "0")),
        ("--cells lstm lstm", ("--cells", "once")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(sweep, arguments, names)
