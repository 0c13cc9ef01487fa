"""Detecting anomalies as steps whose score exceeds a threshold, without reading them afterwards.

A rule maps `(past [C, K], change [C])` to the scores and the expected values of the changes, `[C]`
each; C series, K past changes.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.datasets.series.parts import Parts
from rnnjax.datasets.series.transforms import Scaling

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


def detect(
    rule: Rule,
    parts: Parts,
    changes: Any,
    copies: Any,
    *,
    quantile: float,
    reach: int,
    replaced: int,
) -> tuple[Any, Any]:
    """Return a rule's threshold, and its scores of the test steps of copies of a series, `[C, N]`.

    Args:
        rule: see above.
        parts: of the series.
        changes: of the unchanged series, `[T]`.
        copies: changes of the copies, `[C, T]`.
        quantile: of the scores of the validation part of the unchanged series, where nothing is
            replaced: the threshold.
        reach: past changes that the rule needs.
        replaced: as for `watch`.
    """

    def watched(threshold, changes, origins):
        first, last = origins[0], origins[-1]
        past, coming = changes[:, first - reach : first], changes[:, first : last + 1]
        return watch(rule, threshold, past, coming, replaced=replaced)[0][:, origins - first]

    quiet = watched(jnp.inf, jnp.asarray(changes)[None], parts.validation)
    threshold = jnp.quantile(quiet, quantile)
    return threshold, watched(threshold, jnp.asarray(copies), parts.test)


def simple_rules(
    parts: Parts, copies: Any, season: int, **options: Any
) -> dict[str, list[set[int]]]:
    """Return the steps that the simple rules flag in each copy, by the name of the rule.

    Args:
        parts: of the series.
        copies: changes of the copies, `[C, T]`.
        season: steps.
        options: of `detect`.
    """
    rules = {
        "last value": last_value_rule,
        "last season": functools.partial(last_season_rule, season),
    }
    changes, found = (np.float32(parts.changes), np.float32(copies)), {}
    for name, rule in rules.items():
        threshold, scores = detect(rule, parts, *changes, **options)
        found[name] = flagged(scores, threshold, parts.test + 1)
    return found | {"every step": [{*(parts.test + 1).tolist()}] * len(copies)}


def flagged(scores: Any, threshold: Any, steps: np.ndarray) -> list[set[int]]:
    """Return for each series the set of steps whose score exceeds the threshold.

    Args:
        scores: `[C, N]`.
        steps: the number of each step, `[N]`.
    """
    return [{*steps[row].tolist()} for row in np.asarray(scores) > float(threshold)]


def find(
    rule: Rule,
    values: np.ndarray,
    scaling: Scaling,
    *,
    threshold: float,
    window: int,
    replaced: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flagged steps of a series, and the values that were expected of all its steps.

    Args:
        rule: see above; of scaled changes.
        values: `[T]`, T > window + 1; the first `window` changes are read without a score.
        scaling: of the changes.
        threshold, replaced: as for `watch`.
        window: past changes that the rule needs.

    Returns:
        The flagged steps, and `[T]`, NaN where nothing was expected.
    """
    changes = scaling.apply(np.diff(values)[:, None])[None, :, 0].astype(np.float32)
    past, coming = changes[:, :window], jnp.asarray(changes[:, window:])
    watched = watch(rule, threshold, past, coming, replaced=replaced)
    scores, expected = (np.asarray(a)[0] for a in watched)
    predicted = scaling.undo(expected[:, None].astype(np.float64))[:, 0]
    unknown = np.full(window + 1, np.nan)
    places = np.flatnonzero(scores > threshold) + window + 1
    return places, np.concatenate([unknown, values[window:-1] + predicted])


def marks_table(
    steps: np.ndarray, dates: np.ndarray, values: np.ndarray, marks: Mapping[str, Iterable[int]]
) -> list[dict[str, Any]]:
    """Return the parts of a table: a series over some steps, and below it a row for each mark.

    Columns `series`, `year` and `median`: the value, or the height of a mark, NaN where there is
    none.

    Args:
        steps: to show, `[N]`.
        dates: of the steps of the series.
        values: of the series.
        marks: the marked steps by name.
    """
    low, unit = values[steps].min(), np.ptp(values[steps]) / 16
    years = dates[steps].astype("datetime64[M]").astype(int) / 12 + 1970
    if len(np.unique(years)) < len(steps):  # weeks
        years = dates[steps].astype(int) / 365.25 + 1970
    lines = {"series": values[steps]}
    for row, (name, marked) in enumerate(marks.items(), 1):
        lines[name] = np.where(np.isin(steps, [*marked]), low - row * unit, np.nan)
    return [{"series": name, "year": years, "median": line} for name, line in lines.items()]
