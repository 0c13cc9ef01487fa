"""What can be forecast of daily prices: returns or volatility, each with simple forecasts.

Axis letters: T days, N test origins of a `Fold`, H days ahead, S networks.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float64

from rnnjax.datasets.series.forecasts import Fold, targets
from rnnjax.datasets.series.loader import Series
from rnnjax.datasets.series.transforms import exponential_average, log_ranges, log_returns

Forecasts = dict[str, Float64[np.ndarray, " N"]]


@dataclasses.dataclass(frozen=True)
class Returns:
    """The log return of each day, ln(p_t / p_{t-1})."""

    metric: ClassVar[str] = "RMSE of log returns in percent"
    label: ClassVar[str] = "log return in percent"
    unit: ClassVar[int] = 100
    columns: ClassVar[int] = 1
    decay: ClassVar[float | None] = None

    def values(self, prices: Series) -> Float64[np.ndarray, "_ 1"]:
        """Return what is read of T days, `[T - 1, 1]`; entry t - 1 is known at the close of day t.

        Raises:
            ValueError: a price is not positive.
        """
        return log_returns(prices.values)[:, None]

    def simple_forecasts(
        self, values: Float64[np.ndarray, " T"], fold: Fold, horizon: int
    ) -> Forecasts:
        """Return forecasts for each test origin, the same for all days ahead: no change of the
        price, and the mean return of the training part.
        """
        return {"no change": np.zeros(len(fold.test)), "training mean": _mean(values, fold)}

    def entries(
        self, ahead: Float64[np.ndarray, "S N H"], true: Float64[np.ndarray, "N H"]
    ) -> dict[str, Any]:
        """Return how often the sign of the next return is right, by network, and positive."""
        rises = true[:, 0] > 0
        right = (ahead[:, :, 0] > 0) == rises
        return {"right_direction": right.mean(1).tolist(), "rising_days": float(rises.mean())}

    def sentences(self, ahead: Float[np.ndarray, " H"], price: float) -> Iterator[str]:
        """Yield what is forecast of each day after one with this price."""
        for day, value in enumerate(ahead, 1):
            price *= np.exp(value)
            yield f"day {day}: log return {100 * value:+.3f} %, price {price:.2f}"


@dataclasses.dataclass(frozen=True)
class Volatility:
    """The log range of each day, ln(ln(high / low)), forecast from log ranges and returns.

    Args:
        decay: of the exponential average of a window from which log ranges are measured.
        decays: of the exponential average that is a simple forecast; the best one in training is
            used.
    """

    metric: ClassVar[str] = "RMSE of log ranges"
    label: ClassVar[str] = "log range"
    unit: ClassVar[int] = 1
    columns: ClassVar[int] = 2

    decay: float | None
    decays: Sequence[float]

    def values(self, prices: Series) -> Float64[np.ndarray, "_ 2"]:
        """Return what is read of T days, log ranges and returns, `[T - 1, 2]`.

        Entry t - 1 is known at the close of day t.

        Raises:
            ValueError: there are no low and high prices, or a price is not positive.
        """
        returns = log_returns(prices.values)
        if not len(prices.low):
            raise ValueError("low and high prices are needed, there are none")
        return np.stack([log_ranges(prices.low, prices.high)[1:], returns], 1)

    def simple_forecasts(
        self, values: Float64[np.ndarray, " T"], fold: Fold, horizon: int
    ) -> Forecasts:
        """Return forecasts for each test origin, the same for all days ahead: the last value, the
        mean of the training part, and an exponential average.

        Args:
            values: log ranges.
            fold: of the test origins.
            horizon: H.
        """
        ahead = targets(values, fold.train, horizon)

        def error(decay):
            averages = exponential_average(values, decay)
            return np.square(ahead - averages[fold.train - 1, None]).mean()

        best = exponential_average(values, min(self.decays, key=error))[fold.test - 1]
        return {
            "last value": values[fold.test - 1],
            "training mean": _mean(values, fold),
            "exponential average": best,
        }

    def entries(
        self, ahead: Float64[np.ndarray, "S N H"], true: Float64[np.ndarray, "N H"]
    ) -> dict[str, Any]:
        """Return nothing: volatility has no direction."""
        return {}

    def sentences(self, ahead: Float[np.ndarray, " H"], price: float) -> Iterator[str]:
        """Yield what is forecast of each day; the price has no effect."""
        for day, value in enumerate(ahead, 1):
            above = 100 * np.expm1(np.exp(value))
            yield f"day {day}: log range {value:.3f}, the high {above:.2f} % above the low"


def _mean(values, fold):
    return np.full(len(fold.test), values[: fold.start].mean())
