"""Tables of lines of slow points are in order of the log odds, one panel for each line."""

import numpy as np

from rnnjax.experiment import add_line_tables


def test_modes_and_overlaps_follow_the_log_odds():
    found = {
        "num_unstable": np.array([0, 1]),
        "q": np.array([1e-5, 1e-6]),
        "eigenvalues": np.array([[0.99, 0.5, 0.0], [1.0, 0.6j, -0.6j]]),
        "points": np.zeros((2, 2)),
        "directions": np.ones((2, 3, 2)),
        "paths": np.arange(12.0).reshape(3, 2, 2),
        "log_odds": np.array([2.0, -1.0]),
        "relevant": np.array([0.8, 0.7]),
        "irrelevant": np.array([0.1, 0.2]),
        "coherence": np.array([-5.0, 5.0]),
    }
    tables = {}
    add_line_tables(tables, [found, found], ["motion", "colour"], 20)
    slow, second, *others = tables["modes"]
    assert [part["panel"] for part in others] == ["colour", "colour"]
    assert [slow["series"], second["series"]] == ["slow mode", "second mode"]
    np.testing.assert_array_equal(slow["log_odds"], [-1, 2])
    np.testing.assert_allclose(slow["median"], [np.inf, -20 / np.log(0.99)])
    np.testing.assert_allclose(second["median"], [-20 / np.log(0.6), -20 / np.log(0.5)])
    relevant, other = tables["selection"][:2]
    np.testing.assert_array_equal(relevant["median"], [0.7, 0.8])
    np.testing.assert_array_equal(other["median"], [0.2, 0.1])
    assert [row["coherence"] for row in tables["trajectories"]] == [-5, 5, -5, 5]
    assert len(tables["points"]) == 2
