"""Detecting anomalies as steps whose score exceeds a threshold, without reading them afterwards.

A rule maps `(past [C, K], change [C])` to the scores and the expected values of the changes, `[C]`
each; C series, K past changes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Rule = Callable[[Any, Any], tuple[Any, Any]]


def last_value_rule(past: Any, change: Any) -> tuple[Any, Any]:
    """Return the size of the change; no change is expected."""
    return jnp.abs(change), jnp.zeros_like(past[:, 0])


def last_season_rule(season: int, past: Any, change: Any) -> tuple[Any, Any]:
    """Return the distance from the change one season (in steps) earlier, which is expected."""
    return jnp.abs(change - past[:, -season]), past[:, -season]


def watch(rule: Rule, threshold: Any, past: Any, changes: Any, *, replaced: int) -> Any:
    """Return the scores of successive changes and the expected changes, `[C, N]` each.

    A change whose score exceeds the threshold is not read: the expected change takes its place, so
    the return to normal raises no alarm. After `replaced` such changes in a row the true ones are
    read, so that a rule that is often wrong sees the series.

    Args:
        rule: see above.
        threshold: infinite to replace nothing.
        past: the changes before the first, `[C, K]`.
        changes: `[C, N]`.
        replaced: most changes in a row that are replaced.
    """

    def step(carry, change):
        past, in_a_row = carry
        score, expected = rule(past, change)
        in_a_row = jnp.where(score > threshold, in_a_row + 1, 0)
        read = jnp.where((in_a_row > 0) & (in_a_row <= replaced), expected, change)
        past = jnp.concatenate([past[:, 1:], read[:, None]], 1)
        return (past, in_a_row), (score, expected)

    start = past, jnp.zeros(len(past), jnp.int32)
    return jax.tree.map(jnp.transpose, jax.lax.scan(step, start, changes.T)[1])


def flagged(scores: Any, threshold: Any, steps: np.ndarray) -> list[set[int]]:
    """Return for each series the set of steps whose score exceeds the threshold.

    Args:
        scores: `[C, N]`.
        steps: the number of each step, `[N]`.
    """
    return [{*steps[row].tolist()} for row in np.asarray(scores) > float(threshold)]
