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
    """Return the origins of all forecasts about steps within [start, end)."""
    return np.arange(max(start, window), end - horizon + 1)


def inputs(
    values: Float[np.ndarray, "T D"], origins: Int[np.ndarray, " N"], window: int
) -> Float[np.ndarray, "N W D"]:
    """Return what each forecast reads: the `window` steps before its origin."""
    return values[origins[:, None] + np.arange(-window, 0)]


def targets(
    values: Float[np.ndarray, " T"], origins: Int[np.ndarray, " N"], horizon: int
) -> Float[np.ndarray, "N H"]:
    """Return what each forecast is about: the `horizon` steps from its origin on."""
    return values[origins[:, None] + np.arange(horizon)]


class Fold(NamedTuple):
    """A step of a walk forward: a year of forecasts, by what was learned from before it."""

    year: int
    start: int  # first step of the year; scaling and training use the steps before it alone
    train: Int[np.ndarray, " N"]  # origins; the targets, too, lie before `start`
    test: Int[np.ndarray, " M"]  # origins; the targets lie within the year


def walk_forward(
    dates: Shaped[np.ndarray, " T"], years: Sequence[int], window: int, horizon: int
) -> list[Fold]:
    """Return a fold for each of the years.

    Raises:
        ValueError: a year has no forecast to test, or none to learn from before it.
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
