"""The AntisymmetricRNN: its equation in NumPy, and the eigenvalues of its Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import AntisymmetricRNN, AntisymmetricRNNCarry, GatedParams
from rnnjax.cells.initializers import Identity
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


def test_values_are_those_of_the_papers_equation(x64):
    """h_t = h_{t-1} + eps tanh((W - W^T - gamma I) h_{t-1} + V x_t + b), with column vectors."""
    rng = np.random.default_rng(0)
    w, v, b = rng.normal(size=(H, H)), rng.normal(size=(H, D)), rng.normal(size=H)
    xs, h = rng.normal(size=(T, B, D)), rng.normal(size=(B, H))
    cell = AntisymmetricRNN(H, epsilon=0.3, gamma=0.4, param_dtype=jnp.float64)
    params = GatedParams(*map(jnp.asarray, (v.T, w.T, b)))
    _, ys = rnnjax.unroll(cell, params, jnp.asarray(xs), AntisymmetricRNNCarry(jnp.asarray(h)))
    for x, y in zip(xs, ys, strict=True):
        for n in range(B):
            h[n] = h[n] + 0.3 * np.tanh((w - w.T - 0.4 * np.eye(H)) @ h[n] + v @ x[n] + b)
        np.testing.assert_allclose(y, h, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0, 0.7])
def test_small_states_turn_and_grow_by_the_step_size_alone(gamma, x64):
    epsilon = 0.1
    cell = AntisymmetricRNN(H, epsilon=epsilon, gamma=gamma, param_dtype=jnp.float64)
    params = cell.init(KEY, D)
    raw = np.asarray(params.recurrent_kernel)
    omega = np.linalg.eigvalsh(1j * (raw - raw.T))  # a Hermitian matrix
    assert np.abs(omega).max() > 0.5
    want = 1 - epsilon * gamma + 1j * epsilon * omega
    steps = diagnostics.jacobians(cell, params, jnp.zeros((T, D)))
    for jacobian in steps:
        found = np.linalg.eigvals(jacobian)
        found = found[np.argsort(found.imag)]
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)
        assert gamma or (np.abs(found) >= 1 - 1e-12).all()
    # The Jacobian is normal, so its eigenvalues are all there is to the gradient's norm.
    product = np.linalg.multi_dot(steps)
    np.testing.assert_allclose(
        np.sort(np.linalg.svd(product, compute_uv=False)), np.sort(np.abs(want) ** T), rtol=1e-12
    )


@pytest.mark.slow
def test_the_flow_has_imaginary_eigenvalues_at_every_state(x64):
    """(J - I) / epsilon = (A - A^T) diag(tanh'), similar to an antisymmetric matrix."""
    cell = AntisymmetricRNN(H, epsilon=0.2, gamma=0.0, param_dtype=jnp.float64)
    params = cell.init(KEY, D)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(T, D)))
    flows = (diagnostics.jacobians(cell, params, xs) - np.eye(H)) / 0.2
    eigenvalues = np.linalg.eigvals(flows)
    assert np.abs(eigenvalues.imag).max() > 0.3
    np.testing.assert_allclose(eigenvalues.real, 0, atol=1e-12)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = AntisymmetricRNN(300).init(KEY, 20)
    assert abs(np.std(params.recurrent_kernel) * np.sqrt(300) - 1) < 0.01
    assert abs(np.std(params.input_kernel) * np.sqrt(20) - 1) < 0.05
    np.testing.assert_array_equal(params.bias, 0)
    cell = AntisymmetricRNN(H, gamma=0.3, recurrent_kernel_init=Identity(2.0))
    ready = cell.prepare(cell.init(KEY, D))
    np.testing.assert_allclose(ready.recurrent_kernel, -0.3 * np.eye(H), rtol=1e-6)
    assert cell.without_initialisers() == AntisymmetricRNN(H, gamma=0.3)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="epsilon must be positive, got 0"):
        AntisymmetricRNN(H, epsilon=0)
    with pytest.raises(ValueError, match="gamma must be at least 0, got -0.1"):
        AntisymmetricRNN(H, gamma=-0.1)
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        AntisymmetricRNN(0)


@pytest.mark.slow
def test_it_takes_the_fast_path():
    cell = AntisymmetricRNN(H)
    params = cell.init(KEY, D)
    assert served(cell, cell.prepare(params), cell.initial_carry((B,)), jnp.zeros((T, B, D)))


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(AntisymmetricRNN(H, epsilon=0.5, gamma=0.2), D)
