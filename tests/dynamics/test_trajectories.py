"""Speeds and distances of trajectories, and flow fields, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import dynamics
from rnnjax.cells import Constrained, LowRank, Rate


def test_speed_phase_distance_and_crossing_by_hand():
    path = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
    assert dynamics.mean_speed(path) == 3
    np.testing.assert_allclose(dynamics.at_phases(path, 5)[1], [1.5, 2.0])
    np.testing.assert_allclose(dynamics.at_phases(path, 3), path)
    longer = np.array([[0.0, 1.0], [3.0, 5.0], [3.0, 9.0], [0.0, 0.0]])
    assert dynamics.mean_distance([path, longer]) == pytest.approx((1 + 1 + 4) / 3)
    three = dynamics.mean_distance([path, longer, path])
    assert three == pytest.approx((2 + 0 + 2) / 3)
    assert dynamics.first_crossing(np.array([-1.0, -0.5, 1.5, -1.0])) == 1.25
    assert dynamics.first_crossing(np.array([-1.0, 0.0, 2.0])) == 1
    assert np.isnan(dynamics.first_crossing(np.array([-1.0, -0.5])))
    assert np.isnan(dynamics.first_crossing(np.array([0.5, -0.5])))


def test_two_units_fill_their_plane(x64):
    cell = rnnjax.Elman(2, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1)
    x, axis = jnp.array([0.3]), np.linspace(-1, 1, 3)
    field = dynamics.flow_in_plane(cell, params, x, np.zeros(2), np.eye(2), axis, axis + 1)
    for a, b, da, db in zip(*(field[name] for name in ("x", "y", "dx", "dy")), strict=True):
        h = np.array([a, b])
        after = np.tanh(x @ params.input_kernel + h @ params.recurrent_kernel + params.bias)
        np.testing.assert_allclose(np.add(h, (da, db)), after, atol=1e-12)
    assert field["leaving"].max() < 1e-15


def test_a_rate_network_of_rank_two_stays_in_the_plane_of_m(x64):
    """kappa' = (1 - alpha) kappa + alpha n^T phi(m kappa + b) / N, by NumPy."""
    units, alpha = 7, 0.2
    cell = Constrained(Rate(units, param_dtype=jnp.float64), low_rank=LowRank(2))
    params = cell.init(jax.random.key(1), 3)
    params = params._replace(bias=jax.random.normal(jax.random.key(2), (units,)))
    m, n = map(np.asarray, params.recurrent_kernel)
    axes, corner = np.linalg.qr(m)
    bias = np.asarray(params.bias)
    field = dynamics.flow_in_plane(
        cell, params, jnp.zeros(3), bias, axes, np.linspace(-2, 2, 3), np.linspace(-1, 1, 5)
    )
    assert field["x"].shape == (15,) and field["leaving"].max() < 1e-14
    for a, b, da, db in zip(*(field[name] for name in ("x", "y", "dx", "dy")), strict=True):
        kappa = np.linalg.solve(corner, [a, b])
        change = alpha * (n.T @ np.tanh(m @ kappa + bias) / units - kappa)
        np.testing.assert_allclose([da, db], corner @ change, atol=1e-12)
    aside = dynamics.flow_in_plane(
        cell, params, jnp.ones(3), bias, axes, np.zeros(1), np.zeros(1)
    )  # with input the plane is another one
    assert aside["leaving"][0] > 1e-3


def test_what_a_plane_must_be():
    cell = rnnjax.Elman(3)
    params = cell.init(jax.random.key(0), 1)
    given = cell, params, jnp.zeros(1)
    grid = np.zeros(1), np.zeros(1)
    with pytest.raises(ValueError, match=r"states of 3 entries, \[3\] and \[3, 2\]; got"):
        dynamics.flow_in_plane(*given, np.zeros(2), np.eye(3)[:, :2], *grid)
    with pytest.raises(ValueError, match="axes must be two orthonormal columns"):
        dynamics.flow_in_plane(*given, np.zeros(3), 2 * np.eye(3)[:, :2], *grid)
