"""Simulated means beside closed forms: how far off they are, and how far chance allows."""

import math

import numpy as np
import pytest

from rnnjax.experiment import closed_forms


def test_deviations_are_taken_over_all_rows():
    values = np.array([[1.0, 2.0], [3.0, 2.5]])
    row = closed_forms.beside_theory(values, np.array([2.5, 2.0]))
    np.testing.assert_allclose(row["mean"], [2.0, 2.25])
    np.testing.assert_allclose(row["standard_error"], [1.0, 0.25])
    exact = closed_forms.beside_theory(np.array([[4.0, 4.0], [5.0, 5.0]]), np.array([4.5, 4.5]))
    found = closed_forms.largest_deviations([row, exact])
    assert found["relative_error"] == pytest.approx(0.5 / 2.5)
    assert found["standard_errors"] == pytest.approx(1.0)
    assert found["largest_standard_error"] == pytest.approx(0.4)
    last = closed_forms.last_values([row | {"moment": "a"}], "moment")
    assert last == {"simulated": {"a": 2.25}, "closed_form": {"a": 2.0}}
    assert closed_forms.texts(last, ["a"]) == ["2.25 | 2"]
    ratio = closed_forms.ratios(row)
    np.testing.assert_allclose(ratio["median"], [0.8, 1.125])
    np.testing.assert_allclose(ratio["q75"] - ratio["median"], [0.8, 0.25])
    assert (ratio["theory"] == 1).all()


def test_the_largest_of_many_deviations_is_rarely_beyond_what_is_allowed():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 20, 5))  # runs, comparisons, seeds
    off = np.abs(draws.mean(-1)) / (draws.std(-1, ddof=1) / math.sqrt(5))
    share = np.mean(off.max(-1) > closed_forms.allowed(20, 5))
    assert 0.004 < share < 0.016


def test_measured_values_stand_beside_stated_ones(capsys):
    found = closed_forms.compare([1.5, 2.0], {"a": 1.0, "b": 2.0}, {"a": 0.1, "b": 0.2})
    assert found["a"] == {"measured": 1.5, "stated": 1.0, "error": 0.5, "allowed": 0.1}
    closed_forms.show(found)
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["closed", "form", "measured", "stated", "error"]
    assert first.split() == ["a", "1.5", "1", "5.0e-01"]
