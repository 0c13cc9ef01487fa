"""The RG-LRU: its equations in NumPy, closed forms, saturated gates, and what its arguments do.

`tests/recurrence/test_parallel.py` runs `check_cell`, and compares the scan over time with steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problems import B, D, T, problem

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import RGLRU
from rnnjax.cells.initializers import Identity

H, N = 6, 2
KEY = jax.random.key(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def least(params):
    """The a of r = 1: s(-Lambda)^8."""
    return sigmoid(-np.asarray(params.decay)) ** 8


def test_values_are_those_of_the_papers_equations(x64):
    """With dense W_r and W_i, which have the heads' blocks on their diagonals; a = s(.)^(c r)."""
    cell, params, xs, carry = problem(RGLRU(H, num_heads=N))
    dense, width = np.zeros((2, H, H)), H // N
    for head, block in enumerate(np.asarray(params.gate_kernel)):
        place = slice(head * width, (head + 1) * width)
        dense[0, place, place], dense[1, place, place] = np.split(block, 2, axis=-1)
    b = np.split(np.asarray(params.gate_bias), 2)
    h, want = np.asarray(carry.h), []
    for x in np.asarray(xs):
        v = x @ np.asarray(params.input_kernel)
        r, i = (sigmoid(v @ dense[g] + b[g]) for g in (0, 1))
        a = least(params) ** r
        h = a * h + np.sqrt(1 - a**2) * (i * v)
        want.append(h)
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        final, ys = run(cell, params, xs, carry)
        np.testing.assert_allclose(ys, want, rtol=1e-11)
        np.testing.assert_array_equal(final.h, ys[-1])


@pytest.mark.slow
def test_the_gradient_lies_between_the_least_factor_and_one(x64):
    """With no weights of the gates r = 1/2, and a is the root of the least factor, exactly."""
    cell, params, xs, _ = problem(RGLRU(H, num_heads=N))
    lags = np.arange(1, T + 1)[:, None]

    def first(ys):
        return ys[-1, :, 0].sum()

    def slopes(params):
        return np.asarray(diagnostics.gradient_profile(cell, params, xs, first).log_norms)

    found, bound = slopes(params), lags * np.log(least(params)[0])
    assert (bound < found).all() and (found < 0).all()
    half = params._replace(gate_kernel=0 * params.gate_kernel, gate_bias=0 * params.gate_bias)
    np.testing.assert_allclose(slopes(half), np.broadcast_to(bound / 2, (T, B)), rtol=1e-12)


@pytest.mark.slow
def test_a_gate_that_is_shut_has_finite_gradients():
    """r = s(-200) is zero in float32, where a = 1 and sqrt(1 - a^2) has an infinite slope."""
    cell = RGLRU(2)
    params, xs = cell.init(KEY, D), jnp.ones((3, D))

    @jax.jit
    def run(params):
        def loss(params):
            return rnnjax.unroll(cell, params, xs)[1].sum()

        return jax.value_and_grad(loss)(params)

    for bias in (-200.0, -80.0, -20.0, 200.0):
        given = params._replace(gate_bias=jnp.array([bias, bias, 0.0, 0.0]))
        value, slopes = run(given)
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in slopes), bias
        if bias == -20.0:  # 1 - a^2 is about 1e-10: computed from a it would round to zero
            v = np.ones(D) @ np.asarray(params.input_kernel)
            r, i = np.split(v @ np.asarray(params.gate_kernel)[0], 2)
            write = np.sqrt(-2 * np.log(least(params)) * np.exp(bias + r)) * sigmoid(i) * v
            np.testing.assert_allclose(value, 6 * write.sum(), rtol=1e-4)  # writes: 1 + 2 + 3


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = RGLRU(400, num_heads=4, r_min=0.5, r_max=0.6).init(KEY, D)
    found = least(params)
    assert 0.5 - 1e-5 < found.min() < 0.502 and 0.598 < found.max() < 0.6 + 1e-5
    np.testing.assert_allclose(found.mean(), 0.55, atol=0.005)
    assert params.gate_kernel.shape == (4, 100, 200) and not params.gate_bias.any()
    np.testing.assert_allclose(params.gate_kernel.std(), 0.1, rtol=0.02)
    cell = RGLRU(H, kernel_init=Identity(), r_max=0.95)
    usual = cell.init(KEY, H)
    np.testing.assert_array_equal(usual.input_kernel, np.eye(H))
    assert (least(usual) > 0.9 - 1e-5).all() and (least(usual) < 0.95 + 1e-5).all()
    assert cell.without_initialisers() == RGLRU(H)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 4}, "features must be a multiple of num_heads = 4, got 6"),
        ({"num_heads": 0}, "num_heads must be a positive integer, got 0"),
        ({"r_min": 0.0}, r"0 < r_min <= r_max < 1, got \(0.0, 0.999\)"),
        ({"r_max": 1.0}, r"0 < r_min <= r_max < 1, got \(0.9, 1.0\)"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        RGLRU(H, **options)


@pytest.mark.slow
def test_its_gates_are_found(x64):
    cell, params, xs, carry = problem(RGLRU(H, num_heads=N))
    found = diagnostics.gates(cell, params, xs, carry)
    assert {*found} == {"r", "i"} and found["r"].shape == (T, B, H)
    a = cell.coefficients(cell.prepare(params), xs)[0].h
    np.testing.assert_allclose(a, least(params) ** found["r"], rtol=1e-12)
