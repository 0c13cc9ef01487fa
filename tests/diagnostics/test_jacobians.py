"""Jacobians of a step and singular values of their products, against brute force."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from maps import Henon, Point

from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import identity
from rnnjax.cells.initializers import Orthogonal
from rnnjax.diagnostics import (
    jacobian_singular_values,
    jacobians,
    log_gradient_profile,
    log_spectrum_statistics,
)

KEY = jax.random.key(0)
LONG = 10_000
CELLS = {"elman": Elman(4), "lstm": LSTM(4), "gru": GRU(4)}


def problem(cell, steps=12, dtype=jnp.float64):
    params = jax.tree.map(
        lambda p: p.astype(dtype) + 0.3 * jax.random.normal(KEY, p.shape, dtype), cell.init(KEY, 3)
    )
    return params, jax.random.normal(KEY, (steps, 2, 3), dtype)


def brute_force(cell, params, xs):
    """Return J_t `[T, N, N]` of one example by jax.jacobian of the step."""
    carry = jax.tree.map(lambda c: c.astype(float), cell.initial_carry(()))
    found = []
    for x in xs:
        tree = jax.jacobian(lambda s, x=x: cell.step(params, s, cell.project(params, x)))(carry)
        blocks = [[np.atleast_2d(b) for b in row] for row in tree]
        found.append(np.block(blocks))
        carry = cell.step(params, carry, cell.project(params, x))
    return np.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_jacobians_and_the_singular_values_of_their_products(name, x64):
    cell = CELLS[name]
    params, xs = problem(cell)
    found = jacobians(cell, params, xs)
    lags = [1, 4, 12]
    every = jacobian_singular_values(cell, params, xs, lags)
    some = jacobian_singular_values(
        cell, params, xs, np.array(lags).tolist(), 2, tolerance=1e-10, max_iterations=1000
    )
    for b in range(2):
        steps = brute_force(cell, params, xs[:, b])
        np.testing.assert_allclose(found[:, b], steps, rtol=1e-10, atol=1e-12)
        product = np.eye(steps.shape[-1])
        for k in range(1, 13):
            product = product @ steps[-k]
            if k in lags:
                want = np.log(np.linalg.svd(product, compute_uv=False))
                got = every.log_values[lags.index(k), b]
                resolved = want > want[0] - 20  # by NumPy, not by us
                np.testing.assert_allclose(got[resolved], want[resolved], atol=1e-6)
                np.testing.assert_allclose(some.log_values[lags.index(k), b], want[:2], atol=1e-7)
    gap = every.log_values[..., 0] - every.log_values[..., -1]
    np.testing.assert_array_equal(every.log_condition, gap)
    # ln |det| of a product is the sum over steps, however small the last value.
    volume = np.log(np.abs(np.linalg.det(np.asarray(found)))).sum(0)
    np.testing.assert_allclose(every.log_values[-1].sum(-1), volume, rtol=1e-8)


@pytest.mark.slow
def test_a_users_map_of_the_plane(x64):
    found = jacobians(Henon(), {}, jnp.zeros((3, 1)), Point(jnp.float64(0.5), jnp.float64(0.1)))
    np.testing.assert_allclose(found[0], [[-1.4, 1], [0.3, 0]])
    values = jacobian_singular_values(Henon(), {}, jnp.zeros((3, 1)), [1, 3]).log_values
    np.testing.assert_allclose(values.sum(-1), [math.log(0.3), 3 * math.log(0.3)], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-4), (jnp.float64, 1e-9)])
def test_closed_forms_at_lag_ten_thousand(dtype, tolerance, x64):
    cell = Elman(
        4, activation_fn=identity, recurrent_kernel_init=Orthogonal(0.9), param_dtype=dtype
    )
    found = jacobian_singular_values(cell, cell.init(KEY, 1), jnp.zeros((LONG, 1), dtype), [LONG])
    np.testing.assert_allclose(found.log_values, LONG * math.log(0.9), rtol=tolerance)
    cell = LSTM(2, param_dtype=dtype)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, 1))
    forget = jnp.array([-1.0, 2.0], dtype)
    params = params._replace(bias=params.bias.at[2:4].set(forget))
    found = jacobian_singular_values(cell, params, jnp.zeros((LONG, 1), dtype), [LONG])
    want = -LONG * np.log1p(np.exp(-np.array([2.0, -1.0]))) + math.log(1.25) / 2  # h = tanh(c) / 2
    np.testing.assert_allclose(found.log_values[0, :2], want, rtol=tolerance)
    assert (found.log_values[0, 2:] == -np.inf).all()  # h is forgotten at every step


@pytest.mark.slow
def test_the_gradient_never_outgrows_the_leading_value(x64):
    cell = CELLS["gru"]
    params, xs = problem(cell, 30)
    values = jacobian_singular_values(cell, params, xs, [30]).log_values[0, :, 0]
    for seed in range(3):
        draw = jax.random.normal(jax.random.key(seed), (2, 4))
        cotangent = type(cell.initial_carry(()))(draw / jnp.linalg.norm(draw, axis=-1)[:, None])
        profile = log_gradient_profile(cell, params, xs, cotangent)[0]
        assert (profile <= values + 1e-9).all() and (profile > values - 6).all()


@pytest.mark.slow
def test_it_runs_under_jit_and_vmap_over_networks(x64):
    cell = CELLS["elman"]
    params, xs = problem(cell)
    many = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p]), params)
    run = jax.jit(jax.vmap(lambda p: jacobian_singular_values(cell, p, xs, [3]).log_values))
    half = jax.tree.map(lambda p: 0.5 * p, params)
    alone = jacobian_singular_values(cell, half, xs, [3]).log_values
    np.testing.assert_allclose(run(many)[1], alone, atol=1e-9)


@pytest.mark.parametrize(
    ("lags", "options", "message"),
    [
        ([13], {}, "lags must lie in 1..T = 1..12, got 13"),
        ([0], {}, "lags must lie in 1..T = 1..12, got 0"),
        ([1], {"num": 5}, "num must lie in 1..N = 1..4, got 5"),
        ([1], {"num": 0}, "num must lie in 1..N = 1..4, got 0"),
        ([1], {"interval": 0}, "interval must be a positive integer, got 0"),
    ],
)
def test_wrong_arguments(lags, options, message):
    params, xs = problem(CELLS["elman"], dtype=jnp.float32)
    with pytest.raises(ValueError, match=message):
        jacobian_singular_values(CELLS["elman"], params, xs, lags, **options)


def test_a_state_that_is_not_finite_is_refused():
    params, xs = problem(CELLS["elman"], dtype=jnp.float32)
    with pytest.raises(FloatingPointError, match="carry of example 0 is not finite after step 2"):
        jacobians(CELLS["elman"], params, xs.at[2, 0].set(jnp.inf).at[2, 0].multiply(jnp.nan))


def test_statistics_of_a_spectrum():
    values = np.array([[4.0, 2.0, 0.5], [1.0, 1.0, 1.0]])
    found = log_spectrum_statistics(np.log(values))
    np.testing.assert_allclose(found["leading"], np.log([4, 1]))
    np.testing.assert_allclose(found["condition"], np.log([8, 1]), atol=1e-12)
    squares = np.mean(values**2, -1)
    np.testing.assert_allclose(found["root_mean_square"], np.log(squares) / 2, atol=1e-12)
