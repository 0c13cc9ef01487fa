"""Real series for forecasting and anomaly detection: share indices, an oil price, climate, the Sun.

name       what                                               steps            rows
sp500      S&P 500, low, high and close, 1999-2018            trading days    5,031
nasdaq     NASDAQ Composite, low, high and close, 1999-2018   trading days    5,031
wti        West Texas Intermediate crude oil, 1986-2019       trading days    8,321
co2        CO2 in the air of Mauna Loa, ppm, 1958-2001        weeks           2,284
elnino     sea surface temperature, Nino 1+2, C, 1950-2010    months            732
sunspots   sunspot numbers, 1700-2008                         years             309

Sources: the first three come with the package arch (NCSA licence), the others with statsmodels
(BSD licence; the data are in the public domain). These are short series: demonstration scale.

Axis letters: T steps of a series.
"""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

from rnnjax.datasets import preparing
from rnnjax.datasets.series.sources import MEASUREMENTS, PRICES


class Series(NamedTuple):
    """A series in chronological order.

    Dates are the first day of each month or year, or the Saturday of each week (co2). Missing
    values are NaN. For a series without a range, `low` and `high` are empty.
    """

    dates: Shaped[np.ndarray, " T"]  # datetime64[D]
    values: Float64[np.ndarray, " T"]
    low: Float64[np.ndarray, " R"]  # R is T or 0
    high: Float64[np.ndarray, " R"]


def load(name: str, data_dir: str | os.PathLike | None = None) -> Series:
    """Return a series; prepare it if needed (see `rnnjax.datasets.preparing.read`).

    Raises:
        ValueError: there is no such series.
        ModuleNotFoundError: the series is not prepared, and the package that ships it is missing.
    """
    if name not in (*PRICES, *MEASUREMENTS):
        known = ", ".join((*PRICES, *MEASUREMENTS))
        raise ValueError(f"series must be one of {known}; got {name!r}")
    from rnnjax.datasets.series.builder import Measurements, Prices  # imports TFDS

    builder = Prices if name in PRICES else Measurements
    (row,) = preparing.read(builder, name, data_dir)
    dates = row["days"].astype("datetime64[D]")
    return Series(dates, row["values"], row["low"], row["high"])
