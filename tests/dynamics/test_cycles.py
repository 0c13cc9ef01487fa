"""Cycles of the logistic map against closed forms and the roots of its iterates."""

import jax.numpy as jnp
import numpy as np
import pytest
from logistic_map import Logistic, Point
from numpy.polynomial import Polynomial

from rnnjax import dynamics

STARTS = np.linspace(0.01, 0.99, 60)
X = np.zeros(1)


def cycles(r, period, **options):
    params = {"r": jnp.asarray(r)}
    return dynamics.cycles(Logistic(), params, X, Point(jnp.asarray(STARTS)), period, **options)


def test_the_cycle_of_period_2(x64):
    r = 3.2
    found = cycles(r, 2)
    root = np.sqrt((r - 3) * (r + 1))
    want = np.array([r + 1 - root, r + 1 + root]) / (2 * r)
    np.testing.assert_allclose(np.sort(found.points.x), [want], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues, [[4 + 2 * r - r**2]], rtol=1e-10)
    assert found.stable.all() and found.report.num_shorter > 0  # 0 and 1 - 1/r
    assert found.counts.sum() + found.report.num_shorter + found.report.num_outliers == (
        found.report.num_converged
    )


def test_the_two_cycles_of_period_3(x64):
    """Roots of f(f(f(x))) - x without those of f(x) - x; stable and unstable, in order of time."""
    r = 3.83
    x = Polynomial([0, 1])
    f = r * x * (1 - x)
    roots = ((f(f(f)) - x) // (f - x)).roots()
    roots = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
    assert len(roots) == 6
    found = cycles(r, 3)
    np.testing.assert_allclose(np.sort(found.points.x.ravel()), roots, rtol=0, atol=1e-9)
    assert found.points.x.shape == (2, 3) and found.stable.tolist() == [True, False]
    for points, value in zip(found.points.x, found.eigenvalues[:, 0], strict=True):
        np.testing.assert_allclose(r * points * (1 - points), np.roll(points, -1), atol=1e-10)
        np.testing.assert_allclose(value, np.prod(r * (1 - 2 * points)), rtol=1e-9)


@pytest.mark.slow
def test_fixed_points_are_those_of_the_quadratic(x64):
    r = 3.2
    params, starts = {"r": jnp.asarray(r)}, Point(jnp.asarray(STARTS))
    found = dynamics.fixed_points(Logistic(), params, X, starts)
    order = np.argsort(found.points.x)
    np.testing.assert_allclose(found.points.x[order], [0, 1 - 1 / r], atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues[order, 0], [r, 2 - r], rtol=1e-10)
    assert not found.stable.any()


def test_what_it_refuses(x64):
    for period, words in ((1, "at least 2 .*fixed_points"), (0, "positive integer")):
        with pytest.raises(ValueError, match=f"period must be .*{words}"):
            cycles(3.2, period)
