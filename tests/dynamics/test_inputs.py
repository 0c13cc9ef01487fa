"""The input Jacobian against finite differences and a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest

from rnnjax import GRU, LSTM, dynamics
from rnnjax.cells import Rate

KEY, D = jax.random.key(0), 3


@pytest.mark.parametrize("cell", [GRU(5), LSTM(5), own_cells.CoRNN(5)], ids=["gru", "lstm", "own"])
def test_it_is_the_slope_of_the_next_state(cell, x64):
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), cell.init(KEY, D))
    points = jax.tree.map(
        lambda a: jax.random.normal(jax.random.key(1), a.shape, jnp.float64),
        cell.initial_carry((2,)),
    )
    x = jnp.array([0.5, -1.0, 2.0])
    found = dynamics.input_jacobians(cell, params, x, points)
    ready = cell.prepare(params)

    def after(x):
        u = cell.project(ready, jnp.broadcast_to(x, (2, D)))
        return dynamics.flat_states(cell.step(ready, points, u))

    for d in range(D):
        e = 1e-6 * jnp.eye(D)[d]
        slope = (after(x + e) - after(x - e)) / 2e-6
        np.testing.assert_allclose(found[:, :, d], slope, atol=1e-8)


def test_of_a_rate_network_it_is_alpha_times_the_input_kernel(x64):
    cell = Rate(4, dt=10, tau=40, param_dtype=jnp.float64)
    params = cell.init(KEY, D)
    found = dynamics.input_jacobians(cell, params, jnp.ones(D), cell.initial_carry((7,)))
    np.testing.assert_allclose(found, [params.input_kernel.T / 4] * 7, rtol=1e-12)


def test_what_it_refuses(x64):
    cell = GRU(5, param_dtype=jnp.float64)
    params, points = cell.init(KEY, D), cell.initial_carry((2,))
    with pytest.raises(ValueError, match="inputs must have 3 features"):
        dynamics.input_jacobians(cell, params, jnp.zeros(4), points)
    with pytest.raises(ValueError, match=r"points.h must have shape \(3, 5\)"):
        dynamics.input_jacobians(cell, params, jnp.zeros(D), type(points)(jnp.zeros((3, 4))))
    with pytest.raises(FloatingPointError, match="points must be finite"):
        dynamics.input_jacobians(
            cell, params, jnp.zeros(D), type(points)(jnp.full((2, 5), jnp.nan))
        )


def test_overlaps_by_hand():
    w = np.array([[3.0, 4.0], [1.0, 1.0j], [0.0, 2.0]])
    d = np.array([[4.0, 3.0], [1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(dynamics.overlaps(w, d), [24 / 25, 0.5**0.5, 0])
