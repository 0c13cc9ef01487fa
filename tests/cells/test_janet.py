"""JANET: its equations in NumPy, its carousel, and the biases it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import JANET, GatedParams, JANETCarry
from rnnjax.cells.initializers import Chrono
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def drawn():
    """Parameters of random entries, inputs and a state, in NumPy."""
    rng = np.random.default_rng(0)
    params = GatedParams(*(rng.normal(size=shape) for shape in ((D, 2 * H), (H, 2 * H), 2 * H)))
    return params, rng.normal(size=(T, B, D)), rng.normal(size=(B, H))


@pytest.mark.parametrize("beta", [1.0, 0])
def test_values_are_those_of_the_papers_equations(beta, x64):
    params, xs, c = drawn()
    wf, wc = np.split(params.input_kernel.T, 2)
    uf, uc = np.split(params.recurrent_kernel.T, 2)
    bf, bc = np.split(params.bias, 2)
    cell = JANET(H, beta=beta, param_dtype=jnp.float64)
    start = JANETCarry(jnp.asarray(c))
    final, hs = rnnjax.unroll(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), start)
    for x, h in zip(xs, hs, strict=True):
        for n in range(B):
            s = uf @ c[n] + wf @ x[n] + bf
            candidate = np.tanh(uc @ c[n] + wc @ x[n] + bc)
            c[n] = sigmoid(s) * c[n] + (1 - sigmoid(s - beta)) * candidate
        np.testing.assert_allclose(h, c, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(final.c, hs[-1])


@pytest.mark.slow
def test_without_recurrent_weights_the_gradient_is_a_product_of_forget_gates(x64):
    params, xs, c = drawn()
    params = params._replace(recurrent_kernel=np.zeros((H, 2 * H)))
    cell = JANET(H, param_dtype=jnp.float64)
    arrays = jax.tree.map(jnp.asarray, (params, xs, JANETCarry(c)))
    profile = diagnostics.gradient_profile(
        cell, arrays[0], arrays[1], lambda ys: ys[-1].sum(), arrays[2]
    )
    f = sigmoid((xs @ params.input_kernel + params.bias)[..., :H])
    for lag in range(1, T + 1):
        want = np.log(np.linalg.norm(np.prod(f[T - lag :], axis=0), axis=-1))
        np.testing.assert_allclose(profile.log_norms[lag - 1], want, rtol=1e-12)
    np.testing.assert_allclose(diagnostics.gates(cell, *arrays)["f"], f, rtol=1e-12)


@pytest.mark.slow
def test_with_chrono_the_units_remember_for_one_to_t_max_steps(x64):
    cell = JANET(60, forget_bias=Chrono(100.0), param_dtype=jnp.float64)
    params = cell.init(KEY, 1)
    assert [leaf.shape for leaf in params] == [(1, 120), (60, 120), (120,)]
    f, g = np.split(params.bias, 2)
    np.testing.assert_array_equal(g, 0)
    times = np.exp(f)
    assert times.min() >= 1 and times.max() <= 99 and times.min() < 10 and times.max() > 90
    np.testing.assert_allclose(sigmoid(f), times / (1 + times), rtol=1e-12)


@pytest.mark.slow
def test_the_forget_bias_is_added_once():
    bias = JANET(H).init(KEY, D).bias
    np.testing.assert_array_equal(bias, np.repeat([1.0, 0.0], H))
    np.testing.assert_array_equal(JANET(H, forget_bias=3).init(KEY, D).bias[:H], 3.0)
    assert JANET(H, forget_bias=Chrono(9.0)).without_initialisers() == JANET(H)
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        JANET(0)


@pytest.mark.slow
def test_it_takes_the_fast_path():
    cell = JANET(H)
    assert served(cell, cell.init(KEY, D), cell.initial_carry((B,)), jnp.zeros((T, B, D)))


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(JANET(H), D)
