"""Scalar recurrences: their moments against sums, a Lyapunov equation, and a simulation's slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from rnnjax.diagnostics import linear_recurrences as linear
from rnnjax.testing import check_cell


@pytest.mark.slow
@pytest.mark.parametrize("name", linear.RECURRENCES)
def test_side_by_side_they_are_a_cell(name):
    check_cell(linear.diagonal(name, 5), 3)


@pytest.mark.parametrize("rho", [0, 0.5, 0.9, 1])
@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9])
def test_closed_forms_of_the_plain_network_are_sums_over_autocovariances(decay, rho):
    k = np.arange(600)
    autocovariance = float(rho) ** np.abs(k - k[:, None])
    state = decay ** (1.0 * k)  # h is this filter on x, its derivative the next
    sensitivity = k * decay ** (k - 1.0)
    want = [f @ autocovariance @ f for f in (state, sensitivity)]
    np.testing.assert_allclose(linear.second_moments("plain", decay, rho), want, rtol=1e-9)


@pytest.mark.parametrize("rho", [0, 0.9, 0.999])
@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", linear.RECURRENCES)
def test_closed_forms_solve_the_lyapunov_equation_of_x_h_and_its_derivative(name, decay, rho, x64):
    """(x, h, dh/dtheta) is one linear system; decay and gain are differentiated by JAX."""
    net = linear.RECURRENCES[name]
    theta = jnp.float64(net.theta(decay))
    (a, da), (g, dg) = (
        jax.jvp(f, (theta,), (jnp.ones_like(theta),)) for f in (net.decay, net.gain)
    )
    assert a == pytest.approx(decay, rel=1e-12)
    # x' = rho x + noise; h' = a h + g x'; s' = a s + a' h + g' x'
    step = np.array([[rho, 0, 0], [g * rho, a, 0], [dg * rho, da, a]], float)
    noise = np.array([1, g, dg], float)[:, None]
    covariance = solve_discrete_lyapunov(step, (1 - rho**2) * noise @ noise.T)
    assert covariance[0, 0] == pytest.approx(1)
    want = np.diag(covariance)[1:]
    np.testing.assert_allclose(linear.second_moments(name, decay, rho), want, rtol=1e-6)


def test_the_claims_of_the_docstring_about_the_closed_forms():
    decays = 1 - np.geomspace(0.5, 1e-6, 50)
    for rho in (0, 0.9, 1):
        state, sensitivity = linear.second_moments("plain", decays, rho)
        assert (np.diff(sensitivity / state) > 0).all() and sensitivity[-1] > 1e11 * state[-1]
        state, sensitivity = linear.second_moments("remedied", decays, rho)
        assert (sensitivity <= state / 4 * (1 + 1e-9)).all()
        limit = (1 + rho) / (1 - rho) if rho < 1 else np.inf
        assert (state <= limit * (1 + 1e-9)).all()
    s = -np.log(decays)
    np.testing.assert_allclose(
        linear.second_moments("remedied", decays, 0)[1], (s / 2 / np.sinh(s)) ** 2, rtol=1e-9
    )


def test_sensitivities_are_finite_differences(x64):
    cell, thetas = linear.diagonal("remedied", 2), jnp.array([-1.0, 0.5])
    xs = jax.random.normal(jax.random.key(0), (7, 3, 1))
    zero = linear.Carry(jnp.zeros((3, 2)))
    (last, last_slope), (h, slope) = linear.sensitivities(cell, thetas, xs, (zero, zero))
    above, below = (
        linear.sensitivities(cell, thetas + step, xs, (zero, zero))[1][0] for step in (1e-6, -1e-6)
    )
    np.testing.assert_allclose(slope, (above - below) / 2e-6, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(last.h, h[-1])
    np.testing.assert_array_equal(last_slope.h, slope[-1])


def test_all_moments_have_a_name():
    found = linear.moments(0.5, 0.9)
    assert found.keys() == linear.MOMENTS.keys()
    assert found["remedied state"] == linear.second_moments("remedied", 0.5, 0.9).state
