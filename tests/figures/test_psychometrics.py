"""Psychometric curves show the shares with their intervals, and the fitted curves through them."""

import numpy as np
import pytest
import scipy.stats
from drawn import draw

from rnnjax import figures
from rnnjax.figures.psychometrics import wilson_interval

STRENGTH = [-50.0, -5.0, 5.0, 50.0]


def table():
    parts = [
        {"context": "motion", "stimulus": "motion", "share": [0.0, 0.3, 0.6, 1.0]},
        {"context": "motion", "stimulus": "colour", "share": [0.5, 0.4, 0.5, 0.6]},
        {"context": "colour", "stimulus": "motion", "share": [0.6, 0.5, 0.5, 0.5]},
    ]
    return [part | {"strength": STRENGTH, "count": [10, 20, 30, 40]} for part in parts]


def fits():
    return [
        {"context": "motion", "stimulus": "motion", "threshold": [2.0], "slope": [0.2]},
        {"context": "motion", "stimulus": "colour", "threshold": [np.nan], "slope": [np.nan]},
        {"context": "colour", "stimulus": "motion", "threshold": [-1.0], "slope": [-0.01]},
    ]


def drawn(stored, with_fits=True):
    options = {"series": "stimulus", "panel": "context", "xlabel": "coherence", "ylabel": "share"}
    points = stored(table())
    return draw(
        lambda: figures.psychometric_curves(
            points, stored(fits()) if with_fits else None, **options
        )
    )


def test_points_lie_at_their_shares_with_their_intervals(stored):
    motion, colour = drawn(stored).axes
    assert [ax.get_title() for ax in (motion, colour)] == ["motion", "colour"]
    assert [len(ax.containers) for ax in (motion, colour)] == [2, 1]
    marks, _, (bars,) = motion.containers[0]
    np.testing.assert_allclose(marks.get_xydata(), np.transpose([STRENGTH, [0, 0.3, 0.6, 1]]))
    ends = [segment[:, 1] for segment in bars.get_segments()]
    for (low, high), k, n in zip(ends, (0, 6, 18, 40), (10, 20, 30, 40), strict=True):
        found = scipy.stats.binomtest(k, n).proportion_ci(0.95, "wilson")
        np.testing.assert_allclose([low, high], [found.low, found.high], atol=1e-4)
    names = [text.get_text() for text in motion.get_legend().get_texts()]
    assert names == ["motion", "colour"]


def test_a_series_is_told_apart_without_colour(stored):
    first, second = (container[0] for container in drawn(stored).axes[0].containers)
    assert first.get_marker() != second.get_marker()
    assert first.get_markerfacecolor() != "white" == second.get_markerfacecolor()
    assert first.get_color() != second.get_color()


def test_curves_are_the_logistic_of_their_threshold_and_slope(stored):
    motion, colour = drawn(stored).axes
    curves = [
        [line for line in ax.lines if len(line.get_xdata()) == 201] for ax in (motion, colour)
    ]
    assert [len(found) for found in curves] == [1, 1]  # one that is not finite is left out
    for (line,), threshold, slope in zip(curves, (2, -1), (0.2, -0.01), strict=True):
        x, y = line.get_data()
        np.testing.assert_allclose(y, 1 / (1 + np.exp(-slope * (x - threshold))), atol=1e-12)
        assert x[0] < -50 and x[-1] > 50
    assert not [
        line
        for ax in drawn(stored, False).axes
        for line in ax.lines
        if len(line.get_xdata()) == 201
    ]


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 7), (500, 1000)])
def test_the_interval_is_wilsons(k, n):
    found = scipy.stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    (low,), (high,) = wilson_interval([k / n], [n])
    np.testing.assert_allclose([low, high], [found.low, found.high], atol=1e-4)
