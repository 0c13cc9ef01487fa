"""Real series for forecasting and anomaly detection: share indices, an oil price, climate, the Sun.

name       what                                               steps            rows
sp500      S&P 500, low, high and close, 1999-2018            trading days    5,031
nasdaq     NASDAQ Composite, likewise                         trading days    5,031
wti        West Texas Intermediate crude oil, 1986-2019       trading days    8,321
co2        CO2 in the air of Mauna Loa, ppm, 1958-2001        weeks           2,284
elnino     sea surface temperature, Nino 1+2, C, 1950-2010    months            732
sunspots   sunspot numbers, 1700-2008                         years             309

Sources: the first three come with the package arch (NCSA licence), the others with statsmodels
(BSD licence; the data are in the public domain). These are short series: demonstration scale.

An origin o is the first step of a forecast. All that a forecast may use lies before it:

    forecast o reads [o - window, o) and is about [o, o + horizon)

Axis letters: T steps of a series, N forecasts, W window, H horizon, D values a step.
"""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from rnnjax.datasets import preparing

PRICES = "sp500", "nasdaq", "wti"
MEASUREMENTS = "co2", "elnino", "sunspots"
LIMITS = "low", "high"


class Series(NamedTuple):
    """A series, in the order of time.

    Dates are those of the first day of the week (co2: of its Saturday), month or year. A value
    that is missing is NaN. Without a range, `low` and `high` are empty.
    """

    dates: Shaped[np.ndarray, " T"]  # datetime64[D]
    values: Float64[np.ndarray, " T"]
    low: Float64[np.ndarray, " R"]  # R is T or 0
    high: Float64[np.ndarray, " R"]


def load(name: str, data_dir: str | os.PathLike | None = None) -> Series:
    """Return a series; prepare it if need be (see `rnnjax.datasets.preparing.read`).

    Raises:
        ValueError: there is no such series.
        ModuleNotFoundError: the package that ships it is missing, and it is not prepared yet.
    """
    from rnnjax.datasets.series_builder import Measurements, Prices

    if name not in (*PRICES, *MEASUREMENTS):
        known = ", ".join((*PRICES, *MEASUREMENTS))
        raise ValueError(f"series must be one of {known}; got {name!r}")
    builder = Prices if name in PRICES else Measurements
    (row,) = preparing.read(builder, name, data_dir)
    dates = row["days"].astype("datetime64[D]")
    return Series(dates, row["values"], row["low"], row["high"])


def read_file(path: str | os.PathLike) -> Series:
    """Read a series from a text file: one number a line, or a CSV file with a header.

    A CSV file needs a column Close or Value; Low and High are read where both are there. Lines are
    in the order of time; dates are not read, those of the result are not a time.

    Raises:
        ValueError: there is no number or no such column, or a line holds no finite number there;
            the message is one line that says which.
        OSError: the file cannot be read.
    """
    try:
        lines = list(csv.reader(Path(path).read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file") from None
    rows = [(number, row) for number, row in enumerate(lines, 1) if row]
    names = ["value"]
    if rows and (len(rows[0][1]) > 1 or not _is_number(rows[0][1][0])):
        names = [name.strip().lower() for name in rows.pop(0)[1]]
    if not {"close", "value"} & {*names}:
        raise ValueError(f"{path} needs one number a line, or a header with Close or Value")
    if not rows:
        raise ValueError(f"{path} holds no numbers")

    def column(name):
        return np.array([_finite(path, line, row, names.index(name)) for line, row in rows])

    values = column("close" if "close" in names else "value")
    low, high = (column(name) if {"low", "high"} <= {*names} else values[:0] for name in LIMITS)
    return Series(np.full(len(values), "NaT", "datetime64[D]"), values, low, high)


def log_returns(prices: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T-1"]:
    """Return ln(p_t / p_{t-1}): entry t - 1 is known at the close of day t.

    Raises:
        ValueError: a price is not positive.
    """
    if not (prices > 0).all():
        raise ValueError(f"prices must be positive, got {prices[~(prices > 0)][0]:g}")
    return np.diff(np.log(prices))


def log_ranges(
    low: Float64[np.ndarray, " T"], high: Float64[np.ndarray, " T"]
) -> Float64[np.ndarray, " T"]:
    """Return ln(ln(high / low)), a measure of a day's volatility.

    Source: Alizadeh, Brandt, Diebold 2002, "Range-based estimation of stochastic volatility
    models". A day without any range counts as one of a hundredth of a percent.

    Raises:
        ValueError: a price is not positive, or a low is above its high.
    """
    if not ((low > 0) & (low <= high)).all():
        raise ValueError("low prices must be positive and no higher than the high ones")
    return np.log(np.maximum(np.log(high / low), 1e-4))


def carried_forward(values: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
    """Return the values with what is missing (NaN) replaced by the last value before it.

    Interpolation would look ahead. What is missing at the very beginning stays NaN.
    """
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[last]


class Scaling(NamedTuple):
    """Values as a mean and a standard deviation, those of the training part: (x - mean) / std."""

    mean: Float64[np.ndarray, " D"]
    std: Float64[np.ndarray, " D"]

    @classmethod
    def fit(cls, values: Float64[np.ndarray, "T D"]) -> "Scaling":
        """Return the scaling of a training part; a column that is constant is only shifted."""
        std = values.std(0)
        return cls(values.mean(0), np.where(std > 1e-12 * np.abs(values).max(0), std, 1.0))

    def apply(self, values: Float64[np.ndarray, "*n D"]) -> Float64[np.ndarray, "*n D"]:
        """Return scaled values."""
        return (values - self.mean) / self.std

    def undo(self, scaled: Float64[np.ndarray, "*n D"]) -> Float64[np.ndarray, "*n D"]:
        """Return the values of scaled ones."""
        return scaled * self.std + self.mean


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


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finite(path, line, row, place):
    text = row[place].strip() if place < len(row) else ""
    if not _is_number(text) or not math.isfinite(float(text)):
        raise ValueError(f"{path}, line {line}: a finite number is needed, got {text!r}")
    return float(text)
