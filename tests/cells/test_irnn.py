"""The IRNN, an Elman network of rectified units that starts at the identity (1504.00941)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import Elman, diagnostics
from rnnjax.cells import ElmanCarry
from rnnjax.cells.initializers import Identity

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


@pytest.mark.slow
def test_the_gradient_is_constant_where_units_are_active_and_zero_where_one_is_not(x64):
    cell = Elman(
        H, activation_fn=jax.nn.relu, recurrent_kernel_init=Identity(), param_dtype=jnp.float64
    )
    params = cell.init(KEY, D)
    np.testing.assert_array_equal(params.recurrent_kernel, np.eye(H))
    np.testing.assert_array_equal(params.bias, 0)
    # Four units keep their state. The last adds inputs up; at t = 3 one of them turns it off.
    xs = np.random.default_rng(0).uniform(0.1, 1, size=(T, B, D))
    xs[3, 1] = -100
    kernel = np.repeat([[0.0, 1.0]], [H - 1, 1], axis=1) * np.ones((D, 1))
    params = params._replace(input_kernel=jnp.asarray(kernel))
    carry = ElmanCarry(jnp.ones((B, H)))
    profile = diagnostics.gradient_profile(
        cell, params, jnp.asarray(xs), lambda ys: ys[-1].sum(), carry
    )
    active = np.full(T, np.sqrt(H))
    one_off = np.where(np.arange(1, T + 1) >= T - 3, np.sqrt(H - 1), np.sqrt(H))
    want = np.log(np.stack([active, one_off], axis=1))
    np.testing.assert_allclose(profile.log_norms, want, rtol=1e-13)
    assert np.isinf(diagnostics.half_life(profile.log_norms[:, 0]))
