"""The IndRNN: its equation in NumPy, gradients that are powers of u, the bound and the draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import GatedParams, IndRNN, IndRNNCarry, identity
from rnnjax.cells.initializers import Identity, Uniform
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)
NUMPY = {jax.nn.relu: lambda a: np.maximum(a, 0), jnp.tanh: np.tanh}


@pytest.mark.parametrize("activation", [jax.nn.relu, jnp.tanh], ids=["relu", "tanh"])
def test_values_are_those_of_the_papers_equation(activation, x64):
    rng = np.random.default_rng(0)
    w, u, b = rng.normal(size=(D, H)), rng.normal(size=H), rng.normal(size=H)
    xs, h = rng.normal(size=(T, B, D)), rng.normal(size=(B, H))
    cell = IndRNN(H, activation_fn=activation, max_abs=0.8, param_dtype=jnp.float64)
    params = GatedParams(*map(jnp.asarray, (w, u, b)))
    _, ys = rnnjax.unroll(cell, params, jnp.asarray(xs), IndRNNCarry(jnp.asarray(h)))
    bounded = np.where(np.abs(u) > 0.8, 0.8 * np.sign(u), u)
    assert (np.abs(u) > 0.8).any() and (np.abs(u) < 0.8).any()
    for x, y in zip(xs, ys, strict=True):
        h = np.stack(
            [
                [NUMPY[activation](x[n] @ w[:, i] + bounded[i] * h[n, i] + b[i]) for i in range(H)]
                for n in range(B)
            ]
        )
        np.testing.assert_allclose(y, h, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_gradient_of_an_active_unit_is_a_power_of_u(x64):
    cell = IndRNN(H, param_dtype=jnp.float64)
    u = np.array([0.2, 0.9, 1.0, 1.1, 0.5])
    params = GatedParams(jnp.abs(cell.init(KEY, D).input_kernel), jnp.asarray(u), jnp.zeros(H))
    xs = jnp.abs(jax.random.normal(KEY, (T, B, D), jnp.float64))
    profile = diagnostics.gradient_profile(cell, params, xs, lambda ys: ys[-1].sum())
    want = [0.5 * np.log((u ** (2 * k)).sum()) for k in range(1, T + 1)]
    np.testing.assert_allclose(profile.log_norms, np.stack([want] * B, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_bound_of_the_paper_limits_the_growth_over_a_sequence(x64):
    bound = 2 ** (1 / T)
    cell = IndRNN(H, activation_fn=identity, max_abs=bound, param_dtype=jnp.float64)
    u = jnp.array([-3.0, 3.0, 1.3, 0.5, -0.5])
    params = GatedParams(cell.init(KEY, D).input_kernel, u, jnp.zeros(H))
    xs = jax.random.normal(KEY, (T, D), jnp.float64)
    product = np.linalg.multi_dot(diagnostics.jacobians(cell, params, xs)[::-1])
    want = np.diag([(-1) ** T * 2, 2, 2, 0.5**T, (-0.5) ** T])
    np.testing.assert_allclose(product, want, rtol=1e-12)

    def loss(params):
        return rnnjax.unroll(cell, params, xs, IndRNNCarry(jnp.ones(H)))[1].sum()

    gradient = jax.grad(loss)(params).recurrent_kernel
    np.testing.assert_array_equal(np.asarray(gradient) == 0, [True, True, True, False, False])


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = IndRNN(4000).init(KEY, 2)
    assert [leaf.shape for leaf in params] == [(2, 4000), (4000,), (4000,)]
    u = np.sort(params.recurrent_kernel)
    assert np.abs(u - (np.arange(4000) + 0.5) / 4000).max() < 0.03  # quantiles of U[0, 1)
    np.testing.assert_array_equal(params.bias, 0)
    drawn = IndRNN(4, kernel_init=Identity(2.0), recurrent_kernel_init=(Uniform(0.1),)).init(KEY, 4)
    np.testing.assert_array_equal(drawn.input_kernel, 2 * np.eye(4))
    assert np.abs(drawn.recurrent_kernel).max() <= 0.1
    assert (np.asarray(drawn.recurrent_kernel) < 0).any()


def test_what_it_refuses():
    for bound in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"max_abs must be positive, got {bound}"):
            IndRNN(H, max_abs=bound)
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        IndRNN(0)
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        IndRNN(H).init(KEY, 0)


@pytest.mark.slow
def test_it_takes_the_fast_path_and_shares_a_program():
    cell = IndRNN(H, max_abs=1.0, recurrent_kernel_init=Uniform())
    params, xs = cell.init(KEY, D), jnp.zeros((T, B, D))
    assert served(cell, params, cell.initial_carry((B,)), xs)
    assert cell.without_initialisers() == IndRNN(H, max_abs=1.0)


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(IndRNN(H, max_abs=0.9, dtype=jnp.bfloat16), D)
