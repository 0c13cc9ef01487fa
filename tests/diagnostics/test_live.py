"""Summaries for every training step against the diagnostics that they abridge, and in training."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import rnnjax
from rnnjax import LSTM, Cell, Elman
from rnnjax.cells import GatedParams, LSTMCarry
from rnnjax.diagnostics import (
    adjoint_norms,
    adjoints,
    gate_saturation,
    gates,
    log_spaced,
    update_ratios,
    zero_perturbations,
)
from rnnjax.training import TrainState, train_on_samples

T, B, D, H, S, STEPS = 7, 3, 3, 5, 2, 5
CELL = LSTM(H)


def draw(*members):
    rng = np.random.default_rng(0)
    shapes = (D, 4 * H), (H, 4 * H), (4 * H,)
    return GatedParams(
        *(jnp.asarray(rng.normal(size=(*members, *shape)), "f4") for shape in shapes)
    )


def inputs():
    return jnp.asarray(np.random.default_rng(1).normal(size=(T, B, D)), "f4")


def test_lags_begin_with_one_two_or_five_and_end_with_zeros():
    for total in (0, 1, 4, 5, 10, 49, 1000, 2500):
        want = [k for k in range(1, total + 1) if re.fullmatch("[125]0*", str(k))]
        assert list(log_spaced(total)) == want


class CountingCarry(NamedTuple):
    steps: Any
    s: Any


@dataclasses.dataclass(frozen=True)
class Counting(Cell):
    """A user's cell of no family that counts its steps and names its gate."""

    def init(self, key, input_size):
        raise NotImplementedError

    def initial_carry(self, batch_shape):
        return CountingCarry(jnp.zeros(batch_shape, jnp.int32), jnp.ones((*batch_shape, D)))

    def project(self, params, x):
        return params * x

    def step(self, params, carry, u):
        gate = checkpoint_name(jax.nn.sigmoid(3 * u + carry.s), "keep")
        return CountingCarry(carry.steps + 1, gate * carry.s)

    def output(self, carry):
        return carry.s


def test_perturbations_are_floating_zeros_for_every_step():
    found = zero_perturbations(Counting(), inputs())
    assert isinstance(found, CountingCarry)
    assert found.steps.shape == (T, B) and found.s.shape == (T, B, D)
    assert all(leaf.dtype == jnp.float32 and (leaf == 0).all() for leaf in found)


@pytest.mark.slow
def test_adjoint_norms_are_medians_of_the_norms_of_adjoints():
    params, xs = draw(), inputs()

    def loss(probe):
        return (rnnjax.unroll(CELL, params, xs, norm_probe=probe)[1][-1] ** 2).sum()

    found = jax.grad(loss)(jnp.zeros((T, B)))
    both = np.concatenate(adjoints(CELL, params, xs, lambda ys: (ys[-1] ** 2).sum()), axis=-1)
    want = np.linalg.norm(both, axis=-1)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    metrics = adjoint_norms(found)
    assert list(metrics) == [f"adjoint_norm_lag_{k}" for k in (1, 2, 5)]
    for k in (1, 2, 5):
        middle = np.sort(want[T - k])[1]
        np.testing.assert_allclose(metrics[f"adjoint_norm_lag_{k}"], middle, rtol=1e-5)
    chosen = adjoint_norms(found[:, 0], lags=[T])  # no batch, the first carry
    assert chosen == {"adjoint_norm_lag_7": found[0, 0]}


@pytest.mark.parametrize("lag", [0, T + 1, -1])
def test_a_lag_outside_the_sequence_is_an_error(lag):
    with pytest.raises(ValueError, match=rf"lags must lie in 1..T = 1..7, got {lag}"):
        adjoint_norms(jnp.ones((T, B)), lags=[1, lag])
    steps = jnp.ones((T, B, H))
    with pytest.raises(ValueError, match=rf"lags must lie in 1..T-1 = 1..6, got {lag}"):
        gate_saturation(CELL, draw(), inputs(), LSTMCarry(steps, steps), lags=[lag])


@pytest.mark.slow
def test_update_ratios_are_relative_to_the_weights_after_the_update():
    rng = np.random.default_rng(2)
    weights = {"a": [rng.normal(size=(3, 4)), np.zeros(5)], "b": np.zeros(2), "c": np.ones(3)}
    updates = {"a": [rng.normal(size=(3, 4)), rng.normal(size=5)], "b": np.zeros(2)}
    updates["c"] = -weights["c"]  # gone; there is no finite answer
    found = update_ratios(*(jax.tree.map(jnp.asarray, tree) for tree in (updates, weights)))
    change, after = updates["a"][0], weights["a"][0] + updates["a"][0]
    want = {
        "update_ratio_a.0": np.linalg.norm(change) / np.linalg.norm(after),
        "update_ratio_a.1": 1,  # from zero
        "update_ratio_b": 0,
        "update_ratio_c": 0,
    }
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    alone = update_ratios(jnp.array([3e-30, 4e-30]), jnp.array([0.0, 6e-30]))  # squares underflow
    assert list(alone) == ["update_ratio"]
    np.testing.assert_allclose(alone["update_ratio"], 5 / np.hypot(3, 10), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [CELL, Counting()])
@pytest.mark.parametrize("lags", [None, [6], [3, 1]])
def test_saturation_is_that_of_the_gates(cell, lags):
    xs = 2 * inputs()
    params = jnp.full(D, 0.9) if isinstance(cell, Counting) else draw()
    carries = rnnjax.unroll(cell, params, xs, return_carries=True)[2]
    found = gate_saturation(cell, params, xs, carries, lags)
    want, steps = {}, [T - k for k in lags or (1, 2, 5)]
    for name, values in gates(cell, params, xs).items():
        values = np.asarray(values)[steps]
        want[f"gate_{name}_mean"] = values.mean()
        want[f"gate_{name}_low"] = (values < 0.1).mean()
        want[f"gate_{name}_high"] = (values > 0.9).mean()
    assert found.keys() == want.keys() and len(want) in (3, 9)
    assert sum(want.values()) > 0.5
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_no_gates_and_no_steps_to_see_them_at_give_no_metrics():
    steps = jnp.ones((T, B, H))
    elman = Elman(H)
    params = GatedParams(jnp.ones((D, H)), jnp.ones((H, H)), jnp.ones(H))
    carries = elman.initial_carry((T, B))
    assert gate_saturation(elman, params, inputs(), carries) == {}
    one = LSTMCarry(steps[:1], steps[:1])
    assert gate_saturation(CELL, draw(), inputs()[:1], one) == {}


def sample(key):
    start, stride = jax.random.key_data(key) % 97  # cheap to compile
    return jnp.sin(start + stride * jnp.arange(1.0 * T * B * D)).reshape(T, B, D)


def loss_of(xs, outputs):
    return ((outputs[-1].sum(-1) - xs[0, :, 0]) ** 2).sum()


def plain_step(state, xs):
    def loss_fn(params):
        return loss_of(xs, rnnjax.unroll(CELL, params, xs)[1])

    loss, gradient = jax.value_and_grad(loss_fn)(state.params)
    params = jax.tree.map(lambda p, g: p - 0.01 * g, state.params, gradient)
    return state._replace(params=params, step=state.step + 1), {"loss": loss}


def watched_step(state, xs):
    def loss_fn(params, probe):
        _, outputs, carries = rnnjax.unroll(CELL, params, xs, norm_probe=probe, return_carries=True)
        return loss_of(xs, outputs), carries

    (loss, carries), (gradient, norms) = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(
        state.params, jnp.zeros((T, B))
    )
    updates = jax.tree.map(lambda g: -0.01 * g, gradient)
    metrics = {"loss": loss} | adjoint_norms(norms) | update_ratios(updates, state.params)
    metrics |= gate_saturation(CELL, state.params, xs, carries)
    params = jax.tree.map(jnp.add, state.params, updates)
    return state._replace(params=params, step=state.step + 1), metrics


@pytest.mark.slow
def test_training_under_watch_goes_as_it_would_unwatched():
    def train(step):
        keys = jax.random.split(jax.random.key(0), S)
        state = TrainState(draw(S), (), jnp.zeros(S, jnp.int32), keys)
        chunks = list(train_on_samples(step, state, sample, steps=STEPS, chunk_size=3))
        names = chunks[0].metrics
        joined = {name: np.concatenate([c.metrics[name] for c in chunks]) for name in names}
        return keys, chunks[-1].state, joined

    _, unwatched, losses = train(plain_step)
    keys, watched, metrics = train(watched_step)
    for a, b in zip(*(jax.tree.leaves(s.params) for s in (watched, unwatched)), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(metrics["loss"], losses["loss"])
    assert len(metrics) == 1 + 3 + 3 + 9
    for name, values in metrics.items():
        assert values.shape == (STEPS, S) and np.isfinite(values).all(), name
    first = sample(jax.random.split(keys[1])[1])  # what the second member sees
    params = jax.tree.map(lambda p: p[1], draw(S))
    found = adjoints(CELL, params, first, lambda ys: loss_of(first, ys))
    want = np.median(np.linalg.norm(np.concatenate(found, axis=-1), axis=-1), axis=1)
    for k in (1, 2, 5):
        np.testing.assert_allclose(metrics[f"adjoint_norm_lag_{k}"][0, 1], want[T - k], rtol=1e-4)
    forget = np.asarray(gates(CELL, params, first)["f"])[[T - 1, T - 2, T - 5]]
    np.testing.assert_allclose(metrics["gate_f_mean"][0, 1], forget.mean(), rtol=1e-5)
