"""Numbers behind the figures that experiments share: quantile bands and loss curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnjax import diagnostics

PHASES = {"before": "before training", "during": "halfway", "after": "after training"}
"""Columns `phase` of tables, and what figures call the phases."""


def select(table: Mapping[str, Any], rows: Any = None, **where: Any) -> dict[str, Any]:
    """Return some rows of a table of columns, in their order.

    Args:
        table: columns of equal length, by name.
        rows: a mask or indices; None means all.
        where: values that columns must have: `cell="lstm"`.
    """
    if rows is not None:
        table = {name: column[rows] for name, column in table.items()}
    length = len(next(iter(table.values())))
    chosen = np.all([np.ones(length, bool), *(table[k] == v for k, v in where.items())], axis=0)
    return {name: column[chosen] for name, column in table.items()}


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
