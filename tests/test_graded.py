"""Saturated networks in float32: what their Jacobians nearly lose, and gradients beside zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import Elman
from rnnjax.diagnostics import jacobian_singular_values, jacobians, lyapunov_spectrum

KEY = jax.random.key(0)


def saturated(features=5):
    cell = Elman(features)
    params = cell.init(KEY, 3)
    params = params._replace(
        recurrent_kernel=2 * params.recurrent_kernel, input_kernel=3 * params.input_kernel
    )
    return cell, params, jax.random.normal(KEY, (200, 3))


@pytest.mark.filterwarnings("ignore:with interval=1 the condition number")  # it is 1e7
@pytest.mark.parametrize("features", [5, 10])  # one block of vectors, and two
def test_the_volume_is_right_where_a_jacobian_is_nearly_singular_in_float32(features):
    cell, params, xs = saturated(features)
    volumes = np.linalg.slogdet(np.asarray(jacobians(cell, params, xs), float))[1]
    found = lyapunov_spectrum(cell, params, xs)
    assert found.condition > 1e6 and found.exponents.dtype == jnp.float32
    np.testing.assert_allclose(found.exponents.sum(), volumes.mean(), rtol=1e-5)
    values = jacobian_singular_values(cell, params, xs, [1, 50, 200]).log_values
    want = [volumes[-k:].sum() for k in (1, 50, 200)]
    np.testing.assert_allclose(values.sum(-1), want, rtol=1e-5)


@pytest.mark.parametrize("num", [5, 17])
def test_slopes_of_exponents_are_finite_whatever_their_number(num):
    cell = Elman(20)
    params, xs = cell.init(KEY, 3), jax.random.normal(KEY, (10, 3))

    @jax.jit
    def slope(params):
        return jax.grad(lambda p: lyapunov_spectrum(cell, p, xs, num).exponents.sum())(params)

    found = jax.tree.leaves(slope(params))
    assert all(jnp.isfinite(leaf).all() for leaf in found) and any((f != 0).any() for f in found)


def test_the_leading_exponent_has_a_slope_beside_others_of_minus_infinity():
    cell = Elman(4, activation_fn=jax.nn.relu)
    params = cell.init(KEY, 3)._replace(bias=jnp.array([5.0, 5.0, -50.0, -50.0]))
    xs = jax.random.normal(KEY, (20, 3))

    def leading(params, num):
        return lyapunov_spectrum(cell, params, xs, num).exponents[0]

    every, alone = (jax.jit(jax.grad(leading), static_argnums=1)(params, n) for n in (4, 1))
    for a, b in zip(every, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert (every.recurrent_kernel != 0).any()
