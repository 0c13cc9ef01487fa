"""What each step adds to the parameters' gradient, against loops, finite differences and powers."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.flatten_util import ravel_pytree
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Cell, Elman, networks
from rnnjax.cells import ElmanCarry, GatedParams, identity
from rnnjax.diagnostics import (
    gradient_signal_to_noise,
    parameter_gradient_by_lag,
    truncation_errors,
)
from rnnjax.testing.problems import wide

KEY = jax.random.key(0)
T, B, D, H = 7, 3, 3, 5


class LeakyCarry(NamedTuple):
    steps: Any
    s: Any


@dataclasses.dataclass(frozen=True)
class Leaky(Cell):
    """A user's cell, s' = a s + (1 - a) tanh(x W + s U), whose carry also counts its steps."""

    def init(self, key, input_size):
        rng = np.random.default_rng(1)
        shapes = {"a": (H,), "W": (input_size, H), "U": (H, H)}
        return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}

    def initial_carry(self, batch_shape):
        return LeakyCarry(jnp.zeros(batch_shape, int), jnp.zeros((*batch_shape, H)))

    def project(self, params, x):
        return x @ params["W"]

    def step(self, params, carry, u):
        leak = jax.nn.sigmoid(params["a"])
        new = jnp.tanh(u + carry.s @ params["U"])
        return LeakyCarry(carry.steps + 1, leak * carry.s + (1 - leak) * new)

    def output(self, carry):
        return 2 * carry.s


CELLS = {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H), "user": Leaky()}


def problem(cell):
    """Float64 parameters away from special values, inputs and a carry."""
    rng = np.random.default_rng(0)
    normal = lambda scale, shape: jnp.asarray(scale * rng.normal(size=shape))  # noqa: E731
    params = jax.tree.map(lambda p: p + normal(0.2, p.shape), cell.init(KEY, D))
    floating = lambda c: jnp.issubdtype(c.dtype, jnp.floating)  # noqa: E731
    carry = jax.tree.map(
        lambda c: normal(0.5, c.shape) if floating(c) else c, cell.initial_carry((B,))
    )
    return params, normal(1, (T, B, D)), carry


def weighted(weights):
    """A loss of every output, or of those that the weights leave."""
    return lambda ys: jnp.sum(weights * (ys + ys**2))


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("lstm", [*CELLS]))
def test_each_part_is_the_slope_in_its_own_step_and_their_sum_the_gradient(name, x64):
    cell = CELLS[name]
    params, xs, start = problem(cell)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)

    @jax.jit
    def oracle(weights):
        def loop(t, size):
            moved = jax.tree.map(lambda p, d: p + size * d, params, direction)
            carry, ys = start, []
            for now, x in enumerate(xs):
                here = jax.tree.map(lambda m, p, now=now: jnp.where(now == t, m, p), moved, params)
                carry = cell.step(here, carry, cell.project(here, x))
                ys.append(cell.output(carry))
            return weighted(weights)(jnp.stack(ys))

        sizes = jnp.array([1e-3, -1e-3, 5e-4, -5e-4])
        losses = jax.vmap(lambda t: jax.vmap(lambda size: loop(t, size))(sizes))(jnp.arange(T))
        wide, half = losses[:, 0] - losses[:, 1], losses[:, 2] - losses[:, 3]
        slopes = (8 * half - wide) / (6 * sizes[0])  # Richardson's, of a step and its half

        def loss(params):
            return weighted(weights)(rnnjax.unroll(cell, params, xs, start)[1])

        return slopes, jax.grad(loss)(params)

    each = jnp.asarray(rng.normal(size=(T, B, H)))
    last = jnp.zeros((T, B, H)).at[-1].set(1)
    for weights in (each, last):
        found = parameter_gradient_by_lag(cell, params, xs, weighted(weights), start)
        slopes, whole = oracle(weights)
        total = jax.tree.map(lambda g: g.sum(0), found)
        assert oracles.relative_error(total, whole) < 1e-12
        along = sum(
            np.tensordot(g, d, axes=d.ndim)
            for g, d in zip(jax.tree.leaves(found), jax.tree.leaves(direction), strict=True)
        )
        assert along.shape == (T,)
        np.testing.assert_allclose(along, slopes, rtol=1e-8, atol=1e-9)


def test_every_lag_of_a_scalar_linear_network_has_the_same_share(x64):
    w, first = 0.9, 0.7
    cell = Elman(1, activation_fn=identity, param_dtype=jnp.float64)
    params = GatedParams(jnp.zeros((1, 1)), jnp.full((1, 1), w), jnp.zeros(1))
    start = ElmanCarry(jnp.full(1, first))
    found = parameter_gradient_by_lag(cell, params, jnp.zeros((T, 1)), lambda y: y[-1, 0], start)
    share = first * w ** (T - 1)
    np.testing.assert_allclose(found.recurrent_kernel[:, 0, 0], share, rtol=1e-13)
    np.testing.assert_allclose(found.recurrent_kernel.sum(), T * share, rtol=1e-13)
    np.testing.assert_allclose(found.bias[:, 0], w ** np.arange(T - 1.0, -1, -1), rtol=1e-13)
    np.testing.assert_array_equal(found.input_kernel, 0)


@pytest.mark.parametrize("name", ["lru", "gru"])  # one with a complex state
def test_windows_miss_what_truncated_back_propagation_misses(name, x64):
    """Every window by itself: the gradient of its steps, from a state that is held fixed."""
    cell, params, xs, start = wide(networks.make_cell(name, H), D, KEY)
    found = truncation_errors(cell, params, xs, lambda ys: jnp.sum(jnp.sin(ys[-1])), start)
    _, _, carries = rnnjax.unroll(cell, params, xs, start, return_carries=True)
    total = len(xs)

    def gradient(k):
        carry = jax.tree.map(lambda c: c[total - k - 1], carries) if k < total else start

        def loss(params):
            return jnp.sum(jnp.sin(rnnjax.unroll(cell, params, xs[total - k :], carry)[1][-1]))

        return ravel_pytree(jax.grad(loss)(params))[0]

    whole = gradient(total)
    want = [np.linalg.norm(whole), *(np.linalg.norm(whole - gradient(k)) for k in range(1, total))]
    np.testing.assert_allclose(found, want, rtol=1e-9)


@pytest.mark.slow
def test_signal_and_noise_are_those_of_the_examples_gradients(x64):
    cell = CELLS["elman"]
    params, xs, start = problem(cell)
    weights = jnp.asarray(np.random.default_rng(5).normal(size=(T, B, H))).at[5:].set(0)
    own = []
    for example in jnp.eye(B)[:, None, :, None]:
        found = parameter_gradient_by_lag(cell, params, xs, weighted(example * weights), start)
        own.append(np.concatenate([np.reshape(g, (T, -1)) for g in found], axis=1))
    mean = np.mean(own, axis=0)
    noise = np.mean([np.sum((g - mean) ** 2, axis=1) for g in own], axis=0)
    found = gradient_signal_to_noise(cell, params, xs, weighted(weights), start)
    np.testing.assert_allclose(found[:5], np.sum(mean**2, axis=1)[:5] / noise[:5], rtol=1e-10)
    np.testing.assert_array_equal(found[5:], 0)  # after the last output that counts
    tiny = weighted(1e-200 * weights)  # whose squares are zero
    rescaled = gradient_signal_to_noise(cell, params, xs, tiny, start)
    np.testing.assert_allclose(rescaled, found, rtol=1e-10)


@pytest.mark.slow
def test_equal_examples_are_all_signal(x64):
    cell = CELLS["elman"]
    params, xs, start = problem(cell)
    xs, start = jnp.broadcast_to(xs[:, :1], xs.shape), ElmanCarry(jnp.full((B, H), 0.5))
    found = gradient_signal_to_noise(cell, params, xs, weighted(jnp.ones((T, B, H))), start)
    assert (found > 1e25).all()  # or infinite


@pytest.mark.parametrize("diagnostic", [parameter_gradient_by_lag, gradient_signal_to_noise])
def test_wrong_arguments_are_named(diagnostic, x64):
    cell = CELLS["elman"]
    params, xs, start = problem(cell)
    with pytest.raises(ValueError, match=r"loss must return a scalar, got shape \(3, 5\)"):
        diagnostic(cell, params, xs, lambda ys: ys[-1], start)
    with pytest.raises(ValueError, match=r"carry.h must have shape \(3, 5\), got \(2, 5\)"):
        diagnostic(cell, params, xs, jnp.sum, cell.initial_carry((2,)))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_noise_needs_a_batch_of_two(batch):
    cell = CELLS["elman"]
    with pytest.raises(ValueError, match=r"xs must have shape \[T, B, D\] with B of at least 2"):
        gradient_signal_to_noise(cell, cell.init(KEY, D), jnp.ones((T, *batch, D)), jnp.sum)
