"""The forecast of Newton's iterations: its sum, its limits, and what it says of both sides."""

import numpy as np
import pytest

from rnnjax.diagnostics import newton_forecast


@pytest.mark.parametrize("rate", [-2.0, -0.1, -1e-3, -1e-14, 0.0, 1e-14, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 50, 600])
def test_the_amplification_is_a_geometric_sum(rate, steps):
    want = np.log(np.exp(rate * np.arange(steps)).sum())
    got = newton_forecast(rate, steps).log_amplification
    assert got == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_exponents_far_from_zero_do_not_overflow():
    found = newton_forecast(np.array([-np.inf, -1e4, 800.0]), 10_000)
    np.testing.assert_allclose(found.log_amplification, [0, 0, 800.0 * 9999])
    np.testing.assert_array_equal(found.iterations, [4, 4, 10_000])
    np.testing.assert_array_equal(found.pays, [True, True, False])


def test_what_it_says():
    calm, edge, wild = newton_forecast(np.array([-0.5, 0.0, 0.1]), 1000).iterations
    assert calm < 10 and edge == wild == 1000
    assert newton_forecast(-0.5, 100).iterations == newton_forecast(-0.5, 10**6).iterations
    assert not newton_forecast(-0.5, 50).pays and newton_forecast(-0.5, 1000).pays
    assert not newton_forecast(0.1, 10**6).pays
    assert newton_forecast(0.3, 5).iterations == 5  # never more than T


def test_what_is_refused():
    with pytest.raises(ValueError, match="steps must be a positive integer, got 0"):
        newton_forecast(0.1, 0)
    with pytest.raises(ValueError, match="exponent must be numbers, got NaN"):
        newton_forecast(np.nan, 3)
