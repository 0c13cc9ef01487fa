"""Detection with a threshold: flagged changes are replaced, and the simple rules."""

import jax.numpy as jnp
import numpy as np

from rnnjax.datasets import series
from rnnjax.datasets.series.detection import (
    detect,
    find,
    flagged,
    last_season_rule,
    last_value_rule,
    marks_table,
    simple_rules,
    watch,
)

OPTIONS = {"quantile": 0.75, "reach": 4, "replaced": 2}


def parts_of(values):
    return series.cut(values, train_share=0.4, validation_share=0.3, window=3, season=4)


def test_a_flagged_change_is_not_read_at_most_twice_in_a_row():
    """Against a loop; the rule expects the change before, and is off by how far it is."""
    changes = np.array([[0, 5, 0, 1, 5, 6, 7, 8, 0, 0], [9, 9, 9, 9, 9, 1, 1, 2, 3, 9.0]])
    past = np.array([[0.0, 0.0], [0.0, 1.0]])

    def rule(past, change):
        return jnp.abs(change - past[:, -1]), past[:, -1]

    scores, expected = watch(rule, 2.5, jnp.asarray(past), jnp.asarray(changes), replaced=2)
    for row in range(2):
        last, in_a_row = past[row, -1], 0
        for step, change in enumerate(changes[row]):
            assert expected[row, step] == last and scores[row, step] == abs(change - last)
            in_a_row = in_a_row + 1 if abs(change - last) > 2.5 else 0
            if not 1 <= in_a_row <= 2:
                last = change


def test_the_simple_rules_by_hand():
    past, change = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([-1.5])
    assert [a.tolist() for a in last_value_rule(past, change)] == [[1.5], [0.0]]
    found = last_season_rule(2, past, change)
    assert [a.tolist() for a in found] == [[3.5], [2.0]]


def test_flagged_are_the_steps_above_the_threshold():
    scores = np.array([[0.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    assert flagged(scores, np.float32(1.5), np.array([7, 8, 10])) == [{8, 10}, set()]


def test_the_threshold_is_a_quantile_of_the_quiet_scores():
    values = np.random.default_rng(0).normal(size=40).cumsum()
    parts = parts_of(values)
    copies = np.float32([np.diff(values), np.diff(values[::-1])])
    threshold, scores = detect(last_value_rule, parts, np.float32(parts.changes), copies, **OPTIONS)
    quiet = np.abs(np.diff(values))[parts.validation]
    np.testing.assert_allclose(threshold, np.quantile(quiet, 0.75), rtol=1e-5)
    np.testing.assert_allclose(scores, np.abs(copies[:, parts.test]), rtol=1e-6)
    found = simple_rules(parts, copies, 4, **OPTIONS)
    assert list(found) == ["last value", "last season", "every step"]
    assert found["last value"] == flagged(scores, threshold, parts.test + 1)
    assert found["every step"] == [{int(t) + 1 for t in parts.test}] * 2


def test_what_is_found_in_a_series_is_in_its_own_units():
    values = np.array([0.0, 1, 0, 1, 9, 1, 0])
    scaling = series.Scaling(np.array([0.5]), np.array([2.0]))
    rule = last_value_rule  # expects a scaled change of 0, which is a change of 0.5
    steps, expected = find(rule, values, scaling, threshold=2.0, window=2, replaced=2)
    assert steps.tolist() == [4, 5]
    np.testing.assert_allclose(expected[3:], values[2:-1] + 0.5)
    assert np.isnan(expected[:3]).all()


def test_marks_lie_below_the_series():
    dates = np.array(["2000-01-01", "2000-02-01", "2000-03-01"], "datetime64[D]")
    values, steps = np.array([9.0, 16.0, 0.0]), np.array([1, 2])
    lines = marks_table(steps, dates, values, {"a": {2}, "b": set()})
    assert [line["series"] for line in lines] == ["series", "a", "b"]
    np.testing.assert_allclose(lines[0]["year"], [2000 + 1 / 12, 2000 + 2 / 12])
    np.testing.assert_array_equal(lines[0]["median"], [16, 0])
    np.testing.assert_array_equal(lines[1]["median"], [np.nan, -1])
    assert np.isnan(lines[2]["median"]).all()
    days = np.array(["2000-01-01", "2000-01-08", "2000-01-15"], "datetime64[D]")
    assert len(np.unique(marks_table(steps, days, values, {})[0]["year"])) == 2
