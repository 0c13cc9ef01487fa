"""The LRU: its equations in NumPy, closed forms, and what its arguments do.

`tests/recurrence/test_parallel.py` runs `check_cell`, and compares the scan over time with steps.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problems import B, D, T, problem

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import LRU

H = 5
KEY = jax.random.key(0)


def eigenvalues(params):
    return np.exp(-np.exp(np.asarray(params.nu_log)) + 1j * np.exp(np.asarray(params.theta_log)))


def test_values_are_those_of_the_papers_equations(x64):
    """x_k = lambda x_(k-1) + exp(gamma_log) B u_k; Re(C x_k) is a dense layer on the outputs."""
    cell, params, xs, carry = problem(LRU(H))
    kernel = np.asarray(params.real_kernel) + 1j * np.asarray(params.imaginary_kernel)
    s, want = np.asarray(carry.s), []
    for x in np.asarray(xs):
        s = eigenvalues(params) * s + np.exp(np.asarray(params.gamma_log)) * (x @ kernel)
        want.append(s)
    rng = np.random.default_rng(0)
    C = rng.normal(size=(4, H)) + 1j * rng.normal(size=(4, H))
    for run in (rnnjax.unroll, rnnjax.unroll_parallel):
        final, ys = run(cell, params, xs, carry)
        np.testing.assert_allclose(ys[..., :H] + 1j * ys[..., H:], want, rtol=1e-12)
        np.testing.assert_allclose(final.s, s, rtol=1e-12)
        dense = np.concatenate([C.real.T, -C.imag.T])
        np.testing.assert_allclose(ys @ dense, (np.array(want) @ C.T).real, rtol=1e-12, atol=1e-14)
    assert cell.output_size == 2 * H and final.s.dtype == jnp.complex128


@pytest.mark.slow
def test_the_gradient_decays_as_the_modulus_and_turns_by_the_phase(x64):
    """d Re s_T / d s_(T-k) is the row (Re lambda^k, -Im lambda^k), whatever the inputs."""
    cell, params, xs, _ = problem(LRU(H, r_min=0.5, max_phase=1.0))
    profile = diagnostics.gradient_profile(cell, params, xs, lambda ys: ys[-1, :, 0].sum())
    lags = np.arange(1, T + 1)
    modulus = abs(eigenvalues(params)[0])
    want = np.stack([lags * np.log(modulus)] * B, axis=1)
    np.testing.assert_allclose(profile.log_norms, want, rtol=1e-12)
    slopes = diagnostics.adjoints(cell, params, xs, lambda ys: ys[-1, :, 0].sum()).s[::-1, :, 0]
    power = eigenvalues(params)[0] ** lags[:, None]
    np.testing.assert_allclose(slopes, np.broadcast_to(power, (T, B)), rtol=1e-12)


@pytest.mark.slow
def test_without_inputs_the_state_itself_decays_so(x64):
    cell, params, xs, carry = problem(LRU(H))
    still = params._replace(gamma_log=jnp.full(H, -jnp.inf))  # gamma B = 0
    _, _, carries = rnnjax.unroll(cell, still, xs, carry, return_carries=True)
    modulus = np.abs(eigenvalues(params)) ** np.arange(1, T + 1)[:, None, None]
    np.testing.assert_allclose(np.abs(carries.s), modulus * np.abs(carry.s), rtol=1e-11)


@pytest.mark.slow
def test_no_parameter_makes_it_unstable():
    cell = LRU(3)
    params = cell.init(KEY, D)._replace(nu_log=jnp.array([-30.0, 0.0, 30.0]))
    ready = cell.prepare(params)
    assert (jnp.abs(ready.eigenvalues) <= 1 + 1e-6).all()
    slopes = jax.grad(lambda p: jnp.abs(rnnjax.unroll(cell, p, jnp.ones((T, D)))[1]).sum())(params)
    assert all(jnp.isfinite(leaf).all() for leaf in slopes)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = LRU(4000, r_min=0.4, r_max=0.9, max_phase=2.0).init(KEY, D)
    found = eigenvalues(params)
    square = np.abs(found) ** 2  # uniform, since lambda is uniform on the ring
    assert 0.16 - 1e-5 < square.min() < 0.162 and 0.805 < square.max() < 0.81 + 1e-5
    np.testing.assert_allclose(square.mean(), (0.16 + 0.81) / 2, atol=0.01)
    phase = np.angle(found)
    assert 0 < phase.min() < 0.01 and 1.99 < phase.max() < 2 + 1e-5
    np.testing.assert_allclose(phase.mean(), 1, atol=0.03)
    np.testing.assert_allclose(np.exp(params.gamma_log), np.sqrt(1 - square), rtol=1e-4)
    for kernel in (params.real_kernel, params.imaginary_kernel):
        np.testing.assert_allclose(kernel.std(), 1 / math.sqrt(2 * D), rtol=0.03)
    whole = LRU(4000).init(KEY, D)
    assert all(np.isfinite(leaf).all() for leaf in whole)
    assert np.abs(eigenvalues(whole)).max() > 0.99 and np.abs(eigenvalues(whole)).min() < 0.1


@pytest.mark.slow
def test_parameters_of_16_bits_have_a_state_of_32():
    cell = LRU(4, param_dtype=jnp.bfloat16)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in cell.init(KEY, D))
    assert cell.initial_carry(()).s.dtype == jnp.complex64


@pytest.mark.slow
def test_white_noise_gives_states_of_one_variance_whatever_the_modulus():
    cell = LRU(64, r_min=0.1, r_max=0.95)
    params, xs = cell.init(KEY, D), jax.random.normal(KEY, (400, 32, D))
    states = rnnjax.unroll_parallel(cell, params, xs, return_carries=True)[2].s[200:]
    power = np.abs(params.real_kernel + 1j * params.imaginary_kernel) ** 2
    np.testing.assert_allclose((np.abs(states) ** 2).mean((0, 1)), power.sum(0), rtol=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_min": 0.9, "r_max": 0.5}, r"r_min <= r_max <= 1 and r_min < 1, got \(0.9, 0.5\)"),
        ({"r_min": 1.0}, "r_min < 1, got"),
        ({"r_max": 1.5}, "got .*1.5"),
        ({"max_phase": 0.0}, "max_phase must be positive, got 0.0"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        LRU(H, **options)


def test_sizes_are_checked_and_programs_are_shared():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        LRU(0)
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        LRU(H).init(KEY, 0)
    assert LRU(H, r_min=0.9, r_max=0.99, max_phase=0.1).without_initialisers() == LRU(H)
