"""Forecasts of a series: what each one reads, what it predicts, and yearly folds.

An origin o is the first step of a forecast. A forecast may only use what lies before its origin:

    forecast o reads [o - window, o) and predicts [o, o + horizon)

Axis letters: T steps of a series, N and M forecasts, W window, H horizon, D values per step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped


def origins(start: int, end: int, window: int, horizon: int) -> Int[np.ndarray, " N"]:
    """Return the origins of all forecasts of steps within [start, end)."""
    return np.arange(max(start, window), end - horizon + 1)


def inputs(
    values: Float[np.ndarray, "T D"], origins: Int[np.ndarray, " N"], window: int
) -> Float[np.ndarray, "N W D"]:
    """Return the inputs of each forecast: the `window` steps before its origin."""
    return values[origins[:, None] + np.arange(-window, 0)]


def targets(
    values: Float[np.ndarray, " T"], origins: Int[np.ndarray, " N"], horizon: int
) -> Float[np.ndarray, "N H"]:
    """Return the targets of each forecast: the `horizon` steps from its origin."""
    return values[origins[:, None] + np.arange(horizon)]


class Fold(NamedTuple):
    """One step of walk-forward validation: a year of forecasts by a model trained before it."""

    year: int
    start: int  # first step of the year; scaling and training use only the steps before it
    train: Int[np.ndarray, " N"]  # origins; the targets lie before `start` too
    test: Int[np.ndarray, " M"]  # origins; the targets lie within the year


def walk_forward(
    dates: Shaped[np.ndarray, " T"], years: Sequence[int], window: int, horizon: int
) -> list[Fold]:
    """Return a fold for each of the years.

    Raises:
        ValueError: a year has no forecast to test, or no forecast to train on before it.
    """
    of_step = dates.astype("datetime64[Y]").astype(int) + 1970
    found = []
    for year in years:
        start, end = np.searchsorted(of_step, [year, year + 1]).tolist()
        fold = Fold(
            year,
            start,
            origins(0, start, window, horizon),
            origins(start, end, window, horizon),
        )
        if not len(fold.train) or not len(fold.test):
            raise ValueError(
                f"year {year} needs {window + horizon} steps before it and {horizon} within it; "
                f"the series has {start} and {end - start}"
            )
        found.append(fold)
    return found
