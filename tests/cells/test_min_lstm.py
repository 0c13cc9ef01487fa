"""The minimal LSTM: its equations in NumPy, closed forms, and what its arguments do.

`tests/recurrence/test_parallel.py` runs `check_cell`, and compares the scan over time with steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problems import B, D, T, problem

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import MinLSTM, MinLSTMParams
from rnnjax.cells.initializers import Chrono, Identity

H = 5
KEY = jax.random.key(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_values_are_those_of_the_papers_equations(x64):
    cell, params, xs, carry = problem(MinLSTM(H, forget_bias=1.0))
    h, want = np.asarray(carry.h), []
    for x in np.asarray(xs):
        f, i, g = np.split(x @ np.asarray(params.kernel) + np.asarray(params.bias), 3, axis=-1)
        f, i = sigmoid(f), sigmoid(i)
        h = f / (f + i) * h + i / (f + i) * g
        want.append(h)
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        final, ys = run(cell, params, xs, carry)
        np.testing.assert_allclose(ys, want, rtol=1e-12)
        np.testing.assert_array_equal(final.h, ys[-1])


@pytest.mark.slow
def test_where_the_gates_agree_the_gradient_halves_whatever_the_input(x64):
    cell, params, xs, _ = problem(MinLSTM(H))
    _, i, g = jnp.split(params.kernel, 3, axis=-1)
    equal = MinLSTMParams(jnp.concatenate([i, i, g], axis=-1), jnp.full(3 * H, 0.7))
    profile = diagnostics.gradient_profile(cell, equal, xs, lambda ys: ys[-1].sum())
    want = np.log(np.sqrt(H)) - np.arange(1, T + 1) * np.log(2)
    np.testing.assert_allclose(profile.log_norms, np.stack([want] * B, 1), rtol=1e-12)


@pytest.mark.slow
def test_closed_gates_give_finite_values_and_gradients():
    """f = i = s(-200) is zero in float32; f / (f + i) is one half, or s of the difference."""
    cell = MinLSTM(1)
    bias = jnp.array([-200.0, -201.0, 1.0])

    def last(bias):
        return rnnjax.unroll(cell, MinLSTMParams(jnp.zeros((D, 3)), bias), jnp.ones((1, D)))[1][-1]

    value, slope = jax.jit(lambda b: (last(b)[0], jax.grad(lambda b: last(b).sum())(b)))(bias)
    i = sigmoid(-1.0)
    np.testing.assert_allclose(value, i, rtol=1e-5)
    np.testing.assert_allclose(slope, [-i * (1 - i), i * (1 - i), i], rtol=1e-5)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = MinLSTM(D, kernel_init=Identity(), forget_bias=1.5)
    params = cell.init(KEY, D)
    np.testing.assert_array_equal(params.kernel, np.concatenate([np.eye(D)] * 3, axis=1))
    np.testing.assert_array_equal(params.bias, [1.5] * D + [0] * 2 * D)
    wide_ = MinLSTM(1000, forget_bias=Chrono(20.0))
    f, i, _ = np.split(np.asarray(wide_.init(KEY, D).bias), 3)
    np.testing.assert_array_equal(i, -f)
    kept = sigmoid(f) / (sigmoid(f) + sigmoid(i))
    assert np.all((kept >= 0.5 - 1e-6) & (kept <= 1 - 1 / 20 + 1e-6))  # memories of 2 to 20 steps
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        MinLSTM(0)
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        cell.init(KEY, 0)


@pytest.mark.slow
def test_its_gates_are_found_and_add_up_to_one(x64):
    cell, params, xs, carry = problem(MinLSTM(H))
    found = diagnostics.gates(cell, params, xs, carry)
    assert {*found} == {"f", "i"}
    np.testing.assert_allclose(found["f"] + found["i"], 1, rtol=1e-14)


def test_a_fresh_initialiser_is_not_compiled_again():
    cell = MinLSTM(H, kernel_init=lambda key, shape, dtype: jnp.ones(shape, dtype), forget_bias=3)
    assert cell.without_initialisers() == MinLSTM(H)
