"""S5: its discrete recurrence in NumPy, closed forms, spectra, and what its arguments do.

`tests/recurrence/test_parallel.py` runs `check_cell`, and compares the scan over time with steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problems import B, D, T, problem
from scipy.linalg import expm
from slow import slow_but_for

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import S5
from rnnjax.testing import check_cell

P = 5
KEY = jax.random.key(0)


def continuous(params):
    """A, B and Delta in NumPy."""
    decay, frequency, step, real, imaginary = (None if p is None else np.asarray(p) for p in params)
    if frequency is None:
        return -np.exp(decay), real, np.exp(step)
    return -np.exp(decay) + 1j * frequency, real + 1j * imaginary, np.exp(step)


@pytest.mark.parametrize("a_init", slow_but_for("hippo", ["hippo", "s4d-real"]))
def test_values_are_those_of_the_differential_equation(a_init, x64):
    """ds/dt = A s + B x over Delta with x constant, by the exponential of [[A, B x], [0, 0]]."""
    cell, params, xs, carry = problem(S5(P, a_init=a_init, dt_max=1.0))
    A, kernel, step = continuous(params)
    s, want = np.asarray(carry.s), []
    for x in np.asarray(xs):
        force, after = x @ kernel, np.empty_like(s)
        for b, n in np.ndindex(s.shape):
            flow = expm(step[n] * np.array([[A[n], force[b, n]], [0, 0]]))
            after[b, n] = flow[0, 0] * s[b, n] + flow[0, 1]
        s = after
        want.append(s)
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        final, ys = run(cell, params, xs, carry)
        ys = ys if a_init == "s4d-real" else ys[..., :P] + 1j * ys[..., P:]
        np.testing.assert_allclose(ys, want, rtol=1e-11)
        np.testing.assert_allclose(final.s, s, rtol=1e-11)


@pytest.mark.slow
def test_half_the_step_twice_as_often_is_the_same(x64):
    """States, and gradients: exp(2k Delta/2 A) = exp(k Delta A)."""
    cell, params, xs, carry = problem(S5(P, dt_max=1.0))
    halved = params._replace(step_log=params.step_log - np.log(2))
    twice = jnp.repeat(xs, 2, axis=0)
    want = rnnjax.unroll(cell, params, xs, carry)[1]
    got = rnnjax.unroll(cell, halved, twice, carry)[1][1::2]
    np.testing.assert_allclose(got, want, rtol=1e-12)

    profile = diagnostics.gradient_profile(cell, halved, twice, lambda ys: ys[-1, :, 0].sum())
    A, _, step = continuous(params)
    lags = np.arange(1, T + 1)[:, None]
    want = np.broadcast_to(lags * step[0] * A[0].real, (T, B))
    np.testing.assert_allclose(profile.log_norms[1::2], want, rtol=1e-11)


@pytest.mark.slow
def test_spectra_are_those_of_the_papers():
    """The normal part of HiPPO-LegS by its definition, entry by entry, and its eigenvalues."""
    size = 2 * P
    hippo, low_rank = np.zeros((size, size)), np.sqrt(np.arange(size) + 0.5)
    for n in range(size):
        hippo[n, n] = -(n + 1)
        for k in range(n):
            hippo[n, k] = -np.sqrt((2 * n + 1) * (2 * k + 1))
    normal = hippo + np.outer(low_rank, low_rank)
    np.testing.assert_allclose(normal @ normal.T, normal.T @ normal, atol=1e-12)
    want = np.linalg.eigvals(normal)
    want = want[want.imag > 0]
    A, *_ = continuous(S5(P).init(KEY, D))
    np.testing.assert_allclose(A, want[np.argsort(want.imag)], rtol=1e-5)
    A, *_ = continuous(S5(P, a_init="s4d-lin").init(KEY, D))
    np.testing.assert_allclose(A, -0.5 + 1j * np.pi * np.arange(P), rtol=1e-6)
    A, *_ = continuous(S5(P, a_init="s4d-real").init(KEY, D))
    np.testing.assert_allclose(A, [-1, -2, -3, -4, -5], rtol=1e-6)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = S5(900, a_init="s4d-lin", dt_min=0.01, dt_max=0.5)
    params = cell.init(KEY, D)
    logs = np.asarray(params.step_log)
    assert np.log(0.01) <= logs.min() < np.log(0.0101) and np.log(0.49) < logs.max() <= np.log(0.5)
    np.testing.assert_allclose(logs.mean(), np.log(0.01 * 0.5) / 2, atol=0.1)
    for kernel in (params.real_kernel, params.imaginary_kernel):
        np.testing.assert_allclose(kernel.std(), 1 / np.sqrt(2 * D), rtol=0.05)
    assert cell.output_size == 1800 and S5(P, a_init="s4d-real").output_size == P
    assert cell.without_initialisers() == S5(900, a_init="s4d-lin")


@pytest.mark.slow
def test_a_slow_state_loses_no_digits_in_float32():
    """Delta |A| = 1e-8: exp(Delta A) rounds to one, (exp(Delta A) - 1) / A must not be zero."""
    cell = S5(1, a_init="s4d-real")
    params = cell.init(KEY, 1)._replace(step_log=jnp.log(jnp.array([1e-8])))
    np.testing.assert_allclose(cell.prepare(params).kernel, 1e-8 * params.real_kernel, rtol=1e-6)
    cell = S5(1)
    params = cell.init(KEY, 1)._replace(step_log=jnp.log(jnp.array([1e-8])))
    want = 1e-8 * np.concatenate([params.real_kernel, params.imaginary_kernel], axis=-1)
    np.testing.assert_allclose(cell.prepare(params).kernel, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a_init": "legs"}, "a_init must be one of 'hippo', 's4d-lin', 's4d-real', got 'legs'"),
        ({"dt_min": 0.0}, r"0 < dt_min <= dt_max, got \(0.0, 0.1\)"),
        ({"dt_min": 0.5}, "dt_min <= dt_max, got"),
    ],
)
def test_wrong_arguments(options, message, without_type_checks):
    with pytest.raises(ValueError, match=message):
        S5(P, **options)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        S5(0)
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        S5(P).init(KEY, 0)


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(S5(P, a_init="s4d-lin"), D)
