"""Numbers behind the figures that experiments share: quantile bands and loss curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from rnnjax import diagnostics

Tables = Mapping[str, list[dict[str, Any]]]
"""The parts of each table by its name, to which a run adds rows before they are written."""

PHASES = {"before": "before training", "during": "halfway", "after": "after training"}
"""Columns `phase` of tables, and what figures call the phases."""


def select(table: Mapping[str, Any], rows: Any = None, **where: Any) -> dict[str, Any]:
    """Return some rows of a table of columns, in their order.

    Args:
        table: columns of equal length, by name.
        rows: a mask or indices; None means all.
        where: values that columns must have, `cell="lstm"`, or lists of them,
            `cell=["lstm", "gru"]`.
    """
    if rows is not None:
        table = {name: column[rows] for name, column in table.items()}
    length = len(next(iter(table.values())))
    masks = [
        np.isin(table[k], v) if isinstance(v, list) else table[k] == v for k, v in where.items()
    ]
    chosen = np.all([np.ones(length, bool), *masks], axis=0)
    return {name: column[chosen] for name, column in table.items()}


def nested(
    rows: Sequence[Mapping[str, Any]], *names: str, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Return rows as dictionaries in dictionaries, and at the bottom lists of what else they hold.

    Args:
        rows: in order.
        names: columns, from the outer dictionary to the inner.
        optional: other columns, which are left out where they are NaN.
    """
    found: dict[str, Any] = {}
    for row in rows:
        place = found
        for name in names[:-1]:
            place = place.setdefault(row[name], {})
        left_out = {name for name in optional if np.isnan(row[name])}
        entry = {key: row[key] for key in row if key not in names and key not in left_out}
        place.setdefault(row[names[-1]], []).append(entry)
    return found


def surface_columns(
    function: Any, center: Any, axes: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return a function over two entries of its parameters as columns of a table.

    Args:
        function: of parameters to a scalar, as for `diagnostics.surface`.
        center: parameters, of which the two entries are scalars and zero.
        axes: the paths of the two entries, with coordinates along each.

    Returns:
        The coordinates under their names, `loss` and `log_gradient_norm`.
    """
    center = jax.tree.map(jnp.asarray, center)
    directions = [diagnostics.entry_direction(center, name, ()) for name in axes]
    grid = diagnostics.surface(function, center, directions, *axes.values())
    columns = dict(zip(axes, np.meshgrid(*axes.values()), strict=True))
    columns |= {"loss": grid.values, "log_gradient_norm": grid.log_gradient_norm}
    return {name: np.asarray(column).ravel() for name, column in columns.items()}


def quantile_band(values: Any) -> dict[str, np.ndarray]:
    """Return columns `median`, `q25` and `q75`, each `[K]`, over all axes but the second.

    Args:
        values: `[S, K, ...]`, such as log norms by member, lag and example.
    """
    rows = np.moveaxis(np.asarray(values), 1, 0)
    return diagnostics.quartiles(rows.reshape(len(rows), -1))


def profile_rows(log_profile: Any) -> dict[str, np.ndarray]:
    """Return columns `lag`, `median`, `q25` and `q75` of a gradient profile, each `[K]`.

    Args:
        log_profile: natural logs `[S, K, B]` of gradient norms at lags 1, ..., K.
    """
    band = quantile_band(log_profile)
    return {"lag": np.arange(1, len(band["median"]) + 1), **band}


def step_band(name: str, values: Any, lengths: Any) -> dict[str, np.ndarray]:
    """Return a column with the steps 1 .. T, and `median`, `q25` and `q75`, each `[T]`.

    The quantiles are over members and the sequences that have the step.

    Args:
        name: of the first column.
        values: `[S, T, B]`.
        lengths: steps of each sequence, `[B]`.
    """
    values, lengths = np.asarray(values), np.asarray(lengths)
    rows = [
        diagnostics.quartiles(values[:, t, lengths > t].reshape(-1)) for t in range(values.shape[1])
    ]
    band = {column: np.array([row[column] for row in rows]) for column in rows[0]}
    return {name: np.arange(1, len(rows) + 1), **band}


def rates_by_lag(
    place: Mapping[str, Any],
    lags: Num[np.ndarray, "K"],
    logs: Mapping[str, Any],
    theory: Mapping[str, float],
    *,
    skip: float = 0.25,
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the rates at which medians of logarithms change with the lag, beside a theory's.

    Args:
        place: columns of every table.
        lags: in rising order.
        logs: natural logs `[K, ...]` by name; the median is over all axes but the first.
        theory: the expected rates, in nats per step, of those that have one.
        skip: lags below this share of the largest are left out of the straight line.

    Returns:
        Columns of a table for each name, `lag`, `median`, `q25`, `q75` and `theory`; and the
        `rate`, `r2` and `theory` of each, for a summary.
    """
    columns, rates, late = {}, {}, lags >= lags[-1] * skip
    for name, values in logs.items():
        found, want = diagnostics.quartiles(values.reshape(len(lags), -1)), theory.get(name)
        fit = diagnostics.line_fit(lags[late], found["median"][late])
        expected = lags * (np.nan if want is None else want)
        columns[name] = {**place, "lag": lags, **found, "theory": expected}
        rates[name] = {"rate": fit.slope, "r2": fit.r2, "theory": want}
    return columns, rates


def loss_curve(chunk: Any, windows: int = 5) -> list[dict[str, Any]]:
    """Return rows of a learning curve: the loss averaged over parts of a chunk of training.

    Members that have stopped are left out.

    Args:
        chunk: a `training.ChunkRecord` with the metric `loss`.
        windows: how many parts, at most one per update.

    Returns:
        Rows with columns `step` (the last of the part), `median`, `q25` and `q75` over members.
    """
    losses, step, rows = chunk.metrics["loss"], chunk.first_step - 1, []
    for part in np.array_split(losses, min(windows, len(losses))):
        step += len(part)
        means = part.mean(0)
        rows.append({"step": step, **diagnostics.quartiles(means[np.isfinite(means)])})
    return rows
