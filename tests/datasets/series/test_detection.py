"""Detection with a threshold: flagged changes are replaced, and the simple rules."""

import jax.numpy as jnp
import numpy as np

from rnnjax.datasets.series.detection import flagged, last_season_rule, last_value_rule, watch


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
