"""Searches along a line: against roots, jumps and peaks that are known."""

import math

import numpy as np
import pytest

from rnnjax.diagnostics import searches


def test_bisection_finds_each_root():
    want = np.array([0.1, 2.0, math.pi])
    got = searches.bisect(0, 4, lambda x: x > want)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_jump_of_any_width_is_found():
    """A slope of 1e12 at 1/3, on top of a gentle one."""
    calls = []

    def function(x):
        calls.append(len(x))
        return (np.tanh(1e12 * (x - 1 / 3)) + x) / 2

    places = searches.refine(function, -1.0, 1.0, rise=0.01)
    assert (np.diff(places) > 0).all() and (places[0], places[-1]) == (-1, 1)
    assert np.diff(function(places)).max() < 0.01
    assert np.diff(places).min() < 1e-13 and set(calls[:-1]) == {128}


def test_a_step_that_float64_cannot_halve_stays():
    places = searches.refine(lambda x: x > 0.3, 0.0, 1.0, rise=0.5)
    at = np.searchsorted(places, 0.3)
    assert np.nextafter(places[at], 1) == places[at + 1] and places[at] == 0.3


def test_a_function_that_falls_is_refused():
    with pytest.raises(ValueError, match="gaps rise by 1e-06 or more; points is 8"):
        searches.refine(lambda x: 10 * x, 0.0, 1.0, rise=1e-6, points=8)


def test_the_peak_is_the_largest_value():
    place, value = searches.peak(lambda x: 3 - np.abs(x - 0.1234567), np.linspace(-1, 1, 11))
    assert place == pytest.approx(0.1234567, abs=1e-9) and value == pytest.approx(3, abs=1e-9)
    assert searches.peak(lambda x: x, np.array([0.0, 1.0, 2.0])) == (2.0, 2.0)  # at the end
