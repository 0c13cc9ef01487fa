"""The coRNN: its equations in NumPy, and the damped oscillator that it is without coupling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import CoRNN, CoRNNCarry, GatedParams
from rnnjax.cells.initializers import Identity
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


def test_values_are_those_of_the_papers_equations(x64):
    """z_n = z + dt (tanh(W y + Wz z + V u + b) - gamma y - eps z), y_n = y + dt z_n."""
    rng = np.random.default_rng(0)
    w, wz, v, b = (rng.normal(size=s) for s in ((H, H), (H, H), (H, D), H))
    xs, y, z = rng.normal(size=(T, B, D)), rng.normal(size=(B, H)), rng.normal(size=(B, H))
    cell = CoRNN(H, dt=0.3, gamma=1.5, epsilon=0.7, param_dtype=jnp.float64)
    params = GatedParams(*map(jnp.asarray, (v.T, np.concatenate([w.T, wz.T]), b)))
    final, ys = rnnjax.unroll(cell, params, jnp.asarray(xs), CoRNNCarry(jnp.asarray(y), z))
    for x, got in zip(xs, ys, strict=True):
        for n in range(B):
            force = np.tanh(w @ y[n] + wz @ z[n] + v @ x[n] + b) - 1.5 * y[n] - 0.7 * z[n]
            z[n] = z[n] + 0.3 * force
            y[n] = y[n] + 0.3 * z[n]
        np.testing.assert_allclose(got, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(final.z, z, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(final.y, ys[-1])


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [2.7, 0.3], ids=["oscillating", "overdamped"])
def test_without_coupling_it_is_a_damped_oscillator(gamma, x64):
    dt, epsilon = 0.1, 2.0
    cell = CoRNN(H, dt=dt, gamma=gamma, epsilon=epsilon, param_dtype=jnp.float64)
    params = cell.init(KEY, D)._replace(recurrent_kernel=jnp.zeros((2 * H, H)))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, D)))
    one = np.array([[1 - dt**2 * gamma, dt * (1 - dt * epsilon)], [-dt * gamma, 1 - dt * epsilon]])
    want = np.kron(one, np.eye(H))  # first all y, then all z
    steps = diagnostics.jacobians(cell, params, xs)
    np.testing.assert_allclose(steps, np.stack([want] * T), rtol=1e-12, atol=1e-14)
    eigenvalues = np.linalg.eigvals(one)
    assert np.iscomplexobj(eigenvalues) == (gamma == 2.7)
    if gamma == 2.7:
        np.testing.assert_allclose(np.abs(eigenvalues), np.sqrt(1 - dt * epsilon), rtol=1e-12)


@pytest.mark.slow
def test_the_coupling_is_of_the_order_of_the_time_step(x64):
    """J = I + dt E with ||E|| bounded by the weights, so k steps grow by at most exp(C k dt)."""
    params = CoRNN(H, param_dtype=jnp.float64).init(KEY, D)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, D)))
    start = CoRNNCarry(jnp.full(H, 0.7), jnp.full(H, -0.4))
    for dt in (0.1, 0.01, 0.001):
        cell = CoRNN(H, dt=dt, param_dtype=jnp.float64)
        steps = diagnostics.jacobians(cell, params, xs, start)
        force = np.linalg.norm(params.recurrent_kernel, 2) + cell.gamma + cell.epsilon
        bound = dt * (1 + dt) * force + dt  # of z', and of y' = y + dt z'
        assert np.linalg.norm(steps - np.eye(2 * H), 2, axis=(1, 2)).max() <= bound


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    kernel = np.asarray(CoRNN(16).init(KEY, D).recurrent_kernel)
    assert kernel.shape == (32, 16)
    of_y, of_z = np.split(kernel, 2)
    for block in (of_y, of_z):
        np.testing.assert_allclose(block.T @ block, np.eye(16), atol=1e-5)
    assert np.abs(of_y - of_z).max() > 0.1
    cell = CoRNN(H, recurrent_kernel_init=(Identity(2.0),))
    params = cell.init(KEY, D)
    np.testing.assert_array_equal(params.recurrent_kernel, 2 * np.tile(np.eye(H), (2, 1)))
    np.testing.assert_array_equal(params.bias, 0)
    assert cell.without_initialisers() == CoRNN(H)
    assert cell.output_size == H


@pytest.mark.parametrize("name", ["dt", "gamma", "epsilon"])
def test_constants_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0.0"):
        dataclasses.replace(CoRNN(H), **{name: 0.0})


@pytest.mark.slow
def test_it_takes_the_fast_path():
    cell = CoRNN(H)
    params = cell.init(KEY, D)
    assert served(cell, params, cell.initial_carry((B,)), jnp.zeros((T, B, D)))


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(CoRNN(H, dt=0.5, gamma=1.0, epsilon=0.8), D)
