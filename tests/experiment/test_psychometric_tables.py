"""Psychometric tables hold the shares by hand, and the fit that the task's own function finds."""

import numpy as np

from rnnjax.experiment import psychometric_tables
from rnnjax.tasks import trials

STRENGTHS = np.array([-10, -10, -5, -5, 5, 5, 10, 10.0])


def test_shares_and_the_fit():
    chosen = np.array([0, 0, 0, 1, 1, 0, 1, 1], bool)
    tables = psychometric_tables(chosen, STRENGTHS, context="motion")
    (points,), (fit,) = tables["psychometric"], tables["psychometric_fits"]
    assert points["context"] == fit["context"] == "motion"
    np.testing.assert_array_equal(points["strength"], [-10, -5, 5, 10])
    np.testing.assert_array_equal(points["count"], 2)
    np.testing.assert_array_equal(points["share"], [0, 0.5, 0.5, 1])
    expected = trials.fit_logistic(chosen, STRENGTHS)
    assert [*fit["threshold"], *fit["slope"]] == list(expected)


def test_a_choice_that_is_never_made_has_no_fit():
    tables = psychometric_tables(np.zeros(8, bool), STRENGTHS)
    assert np.isnan(tables["psychometric_fits"][0]["threshold"]).all()
    assert np.isnan(tables["psychometric_fits"][0]["slope"]).all()
    np.testing.assert_array_equal(tables["psychometric"][0]["share"], 0)
