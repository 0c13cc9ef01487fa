"""Participation ratio and principal components: eigenvalues of NumPy's covariance, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.diagnostics import participation_ratio, principal_components


def states(shape, scales):
    return 3 + np.random.default_rng(0).normal(size=shape) * scales


@pytest.mark.parametrize("shape", [(7, 3, 5), (3, 5)])  # more samples than dimensions, and fewer
def test_both_are_those_of_the_covariance(shape, x64):
    given = states(shape, [3.0, 2.0, 1.0, 0.5, 0.1])
    rows = given.reshape(-1, 5)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    ratio = participation_ratio(jnp.asarray(given))
    assert ratio == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-12)
    found = principal_components(given, 2)
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, values[:2], rtol=1e-9)
    np.testing.assert_allclose(found.share, values[:2] / values.sum(), rtol=1e-9)
    axes = np.asarray(found.axes)
    assert axes.shape == (5, 2) and found.projections.shape == (*shape[:-1], 2)
    np.testing.assert_allclose(np.abs(np.sum(axes * vectors[:, :2], 0)), 1, rtol=1e-9)
    assert (axes[np.argmax(np.abs(axes), 0), [0, 1]] > 0).all()
    np.testing.assert_allclose(found.projections, (given - rows.mean(0)) @ axes, atol=1e-12)
    every = principal_components(given)
    again = every.projections @ every.axes.T + every.mean
    np.testing.assert_allclose(again, given, atol=1e-12)


def test_ratios_in_closed_form(x64):
    corners = np.concatenate([np.eye(5), -np.eye(5)])
    assert participation_ratio(corners) == pytest.approx(5)  # all eigenvalues are equal
    for size in (1e-150, 1e-200, 1e150):
        assert participation_ratio(size * corners) == pytest.approx(5)
    assert participation_ratio(np.outer(np.arange(7), np.ones(3))) == pytest.approx(1)
    assert np.isnan(participation_ratio(np.ones((7, 3))))
    ring = np.exp(2j * np.pi * np.arange(7) / 7)[:, None]  # one complex entry has two dimensions
    assert participation_ratio(ring) == pytest.approx(2)
    assert principal_components(ring).axes.shape == (2, 2)


def test_the_ratio_has_a_slope(x64):
    given, way = states((7, 3), [2.0, 1.0, 0.5]), np.random.default_rng(1).normal(size=(7, 3))
    values = [float(participation_ratio(given + h * way)) for h in (1e-5, -1e-5)]
    slope = jnp.sum(jax.grad(participation_ratio)(given) * way)
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-7)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"at least two samples and N > 0, got \(1, 3\)"):
        participation_ratio(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"at least two samples and N > 0, got \(5,\)"):
        principal_components(np.ones(5))
    with pytest.raises(ValueError, match=r"num must lie in 1..min\(samples, N\) = 1..3, got 4"):
        principal_components(np.ones((7, 3)), 4)
    with pytest.raises(FloatingPointError, match="states must be finite"):
        participation_ratio(np.full((7, 3), np.nan))
