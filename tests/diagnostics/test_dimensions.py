"""Dimension and entropy rate: by hand, by a loop, for maps; and their errors by resampling."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from maps import Henon

from rnnjax import Linear
from rnnjax.diagnostics import (
    LyapunovSpectrum,
    Measurement,
    entropy_rate,
    kaplan_yorke_dimension,
    lyapunov_spectrum,
)

INF = math.inf
SPECTRA = [
    ([0.5, 0.2, -2.0], 2 + 0.7 / 2, 0.7),
    ([0.9, 0.0, -14.6], 2 + 0.9 / 14.6, 0.9),  # a flow
    ([0.5, -0.5, -1.0], 2, 0.5),  # a partial sum of zero
    ([0.0, -1.0, -2.0], 1, 0),
    ([-0.1, -1.0, -2.0], 0, 0),
    ([0.3, 0.2, -0.4], 3, 0.5),  # volumes grow
    ([0.3, -INF, -INF], 1, 0.3),
    ([-INF, -INF, -INF], 0, 0),
]


def by_loop(exponents):
    total = 0.0
    for k, exponent in enumerate(exponents):
        if total + exponent < 0:
            return k + total / abs(exponent)
        total += exponent
    return len(exponents)


def test_spectra_worked_out_by_hand(x64):
    spectra, dimensions, rates = (np.array(part) for part in zip(*SPECTRA, strict=True))
    spectra = spectra.reshape(2, 4, 3)
    found = kaplan_yorke_dimension(spectra, np.full(spectra.shape, 0.1))
    np.testing.assert_allclose(found.value, dimensions.reshape(2, 4), rtol=1e-12)
    assert np.isfinite(found.standard_error).all()
    np.testing.assert_allclose(entropy_rate(spectra).value, rates.reshape(2, 4), rtol=1e-12)
    assert np.isnan(entropy_rate(spectra).standard_error).all()
    drawn = -np.sort(-np.random.default_rng(0).normal(size=(7, 5)) + 0.2)
    found = kaplan_yorke_dimension(drawn).value
    np.testing.assert_allclose(found, [by_loop(row) for row in drawn], rtol=1e-12)
    assert np.isnan(kaplan_yorke_dimension([0.1, math.nan]).value)
    assert np.isnan(entropy_rate([math.nan, -1.0]).value)


def test_too_few_exponents_are_no_answer(x64):
    def spectrum(exponents, size):
        nothing = jnp.zeros(len(exponents))
        return LyapunovSpectrum(jnp.array(exponents), nothing, jnp.ones(()), dimensions=size)

    assert kaplan_yorke_dimension(spectrum([0.3, -0.1], 2)).value == 2
    assert np.isnan(kaplan_yorke_dimension(spectrum([0.3, -0.1], 3)).value)
    assert entropy_rate(spectrum([0.3, -0.1], 3)) == (0.3, 0)
    assert np.isnan(entropy_rate(spectrum([0.3, 0.1], 3)).value)
    assert entropy_rate(spectrum([0.3, 0.1], 2)).value == pytest.approx(0.4)


def test_errors_are_those_of_draws(x64):
    """Independent errors by Monte Carlo; correlated ones by a bootstrap over the blocks of time."""
    rng = np.random.default_rng(0)
    exponents, errors = np.array([0.5, 0.2, -0.3, -2.0]), np.array([0.01, 0.02, 0.03, 0.05])
    draws = exponents + errors * rng.normal(size=(4000, 4))
    found = kaplan_yorke_dimension(exponents, errors)
    assert found.standard_error == pytest.approx(np.std([by_loop(d) for d in draws]), rel=0.05)
    total = draws[:, :2].sum(1)
    assert entropy_rate(exponents, errors).standard_error == pytest.approx(total.std(), rel=0.05)

    mixing = np.array([[1, -0.9, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, -1], [0, 0, 0, 1]])
    blocks = exponents + 0.1 * rng.normal(size=(20, 4)) @ mixing
    means = blocks.mean(0)
    apart = jnp.asarray(blocks.std(0, ddof=1) / math.sqrt(20))
    spectrum = LyapunovSpectrum(jnp.asarray(means), apart, jnp.ones(()), jnp.asarray(blocks))
    chosen = rng.integers(20, size=(4000, 20))
    draws = blocks[chosen].mean(1)
    scale = math.sqrt(20 / 19)  # the bootstrap's variance is that of the sample, not unbiased
    for function, value in (
        (kaplan_yorke_dimension, lambda row: 3 + row[:3].sum() / abs(row[3])),
        (entropy_rate, lambda row: row[:2].sum()),
    ):
        want = scale * np.std([value(row) for row in draws])
        found = function(spectrum)
        assert found.value == pytest.approx(value(means), rel=1e-12)
        assert found.standard_error == pytest.approx(want, rel=0.05)
        assert abs(function(means, apart).standard_error / want - 1) > 0.1  # correlations matter


@pytest.mark.slow
def test_the_henon_map_has_the_published_dimension_and_errors_are_those_of_many_runs(x64):
    """D = 1.258 +- 0.001 (Sprott 2003), h = 0.4192; the sum of the exponents is ln 0.3."""
    runs = 64
    xs = jnp.zeros((3000, runs, 1))
    start = jax.tree.map(
        lambda c: c + 0.2 * jax.random.uniform(jax.random.key(1), c.shape),
        Henon().initial_carry((runs,)),
    )
    spectrum = lyapunov_spectrum(Henon(), {}, xs, transient=100, initial_carry=start)
    assert (spectrum.dimensions == 2).all() and spectrum.block_means.shape == (20, runs, 2)
    for function, published in ((kaplan_yorke_dimension, 1.2583), (entropy_rate, 0.41922)):
        found = Measurement(*(np.asarray(part) for part in function(spectrum)))
        spread = np.std(found.value, ddof=1)
        assert abs(np.mean(found.value) - published) < 4 * spread / math.sqrt(runs)
        typical = math.sqrt(np.mean(np.square(found.standard_error)))
        assert typical == pytest.approx(spread, rel=0.3)
        assert spread < 0.02


class Stretch(Linear):
    """s' = a s, entry by entry."""

    def init(self, key, input_size):
        return jnp.array([0.5, 1.2, 0.9])

    def initial_carry(self, batch_shape):
        return jnp.zeros((*batch_shape, 3))

    def coefficients(self, ready, x):
        nothing = jnp.zeros((*x.shape[:-1], 3), ready.dtype)
        return nothing + ready, nothing

    def output(self, carry):
        return carry


def test_a_linear_cell_in_closed_form():
    spectrum = lyapunov_spectrum(Stretch(), jnp.array([0.5, 1.2, 0.9]), jnp.zeros((7, 1)))
    dimension, rate = kaplan_yorke_dimension(spectrum), entropy_rate(spectrum)
    assert dimension.value == pytest.approx(2 + math.log(1.2 * 0.9) / math.log(2), rel=1e-5)
    assert rate.value == pytest.approx(math.log(1.2), rel=1e-5)
    assert max(dimension.standard_error, rate.standard_error) < 1e-6


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"shape \[\*batch, num\], num > 0; got \(\)"):
        entropy_rate(0.5)
    with pytest.raises(ValueError, match="exponents must descend"):
        kaplan_yorke_dimension([0.1, 0.2])
    with pytest.raises(ValueError, match=r"standard_error must have the shape .*\(2,\); got \(3,"):
        entropy_rate([0.2, 0.1], [0.1, 0.1, 0.1])
    spectrum = LyapunovSpectrum(jnp.zeros(2), jnp.zeros(2), jnp.ones(()))
    with pytest.raises(ValueError, match="standard_error must be None for a LyapunovSpectrum"):
        entropy_rate(spectrum, jnp.zeros(2))
