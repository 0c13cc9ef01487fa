"""The minimal GRU: its equations in NumPy, closed forms, and what its arguments do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import MinGRU, MinGRUParams
from rnnjax.cells.initializers import Chrono, Identity

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)
XS = jax.random.normal(KEY, (T, B, D))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_values_are_those_of_the_papers_equations():
    cell = MinGRU(H, forget_bias=1.0)
    params = cell.init(KEY, D)
    h, want = np.full((B, H), 0.3, np.float32), []
    for x in np.asarray(XS):
        u = x @ np.asarray(params.kernel) + np.asarray(params.bias)
        z, g = sigmoid(u[:, :H]), u[:, H:]
        h = (1 - z) * h + z * g
        want.append(h)
    start = jax.tree.map(lambda c: c + 0.3, cell.initial_carry((B,)))
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        final, ys = run(cell, params, XS, start)
        np.testing.assert_allclose(ys, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(final.h, ys[-1])


@pytest.mark.slow
def test_without_weights_it_halves_at_every_step():
    cell = MinGRU(H)
    zeros = MinGRUParams(jnp.zeros((D, 2 * H)), jnp.zeros(2 * H))
    profile = diagnostics.gradient_profile(cell, zeros, XS, lambda ys: ys[-1].sum())
    want = np.log(np.sqrt(H)) - np.arange(1, T + 1) * np.log(2)
    np.testing.assert_allclose(profile.log_norms, np.stack([want] * B, 1), rtol=1e-5)
    assert profile.half_life() == pytest.approx(1, rel=1e-4)


def test_init_draws_what_the_docstring_says():
    cell = MinGRU(D, kernel_init=Identity(), forget_bias=1.5)
    params = cell.init(KEY, D)
    np.testing.assert_array_equal(params.kernel, np.concatenate([np.eye(D), np.eye(D)], axis=1))
    np.testing.assert_array_equal(params.bias, [-1.5] * D + [0] * D)
    kept = 1 - sigmoid(np.asarray(MinGRU(1000, forget_bias=Chrono(20.0)).init(KEY, D).bias[:1000]))
    assert np.all((kept >= 0.5 - 1e-6) & (kept <= 1 - 1 / 20 + 1e-6))  # memories of 2 to 20 steps
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        MinGRU(0)
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        cell.init(KEY, 0)


def test_a_fresh_initialiser_is_not_compiled_again():
    cell = MinGRU(H, kernel_init=lambda key, shape, dtype: jnp.ones(shape, dtype))
    assert cell.without_initialisers() == MinGRU(H)
