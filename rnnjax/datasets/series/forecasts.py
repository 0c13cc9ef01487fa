"""Forecasts of a series: what each one reads, what it predicts, and yearly folds.

An origin o is the first step of a forecast. A forecast may only use what lies before its origin:

    forecast o reads [o - window, o) and predicts [o, o + horizon)

Axis letters: T steps of a series, N and M forecasts, W window, H horizon, D values per step.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from rnnjax.datasets.series.transforms import Scaling


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

    def scaling(self, values: Float64[np.ndarray, "T D"]) -> Scaling:
        """Return the scaling of a series, fitted on the steps before the year."""
        return Scaling.fit(values[: self.start])

    def padded_test(self, count: int) -> Int[np.ndarray, " count"]:
        """Return `count` origins, those of the test and then the last again: one shape for all."""
        return self.test[np.minimum(np.arange(count), len(self.test) - 1)]


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


def root_mean_square(errors: Float[np.ndarray, "..."]) -> float:
    """Return the root of the mean of the squares of all errors."""
    return float(np.sqrt(np.square(errors).mean()))


def last_days(
    lines: Mapping[str, Shaped[np.ndarray, " N"]],
    origins: Int[np.ndarray, " N"],
    days: Shaped[np.ndarray, " T"],
    count: int,
) -> list[dict[str, Any]]:
    """Return the parts of a table: lines over the last days, by name.

    Columns `series`, `day`, the step of the series, `date` and `median`.

    Args:
        lines: by name, a value for each origin.
        origins: their first steps to forecast.
        days: the date of each step.
        count: days to show.
    """
    places = origins[-count:]
    part = {"day": places, "date": days[places].astype(str)}
    return [{"series": name, **part, "median": line[-count:]} for name, line in lines.items()]


def forecast_examples(
    ahead: Float64[np.ndarray, "N H"],
    true: Float64[np.ndarray, "N H"],
    origins: Int[np.ndarray, " N"],
    days: Shaped[np.ndarray, " T"],
    count: int,
) -> list[dict[str, str]]:
    """Return some forecasts to read beside the true values, spread evenly.

    Args:
        ahead, true: forecasts and true values.
        origins: their first steps to forecast; they are made the day before.
        days: the date of each step.
        count: of examples.
    """

    def text(values):
        return " ".join(f"{value:.2f}" for value in values)

    return [
        {"forecast on": str(days[origins[row] - 1])}
        | {"of the next days": text(ahead[row]), "true values": text(true[row])}
        for row in np.linspace(0, len(origins) - 1, count).astype(int)
    ]
