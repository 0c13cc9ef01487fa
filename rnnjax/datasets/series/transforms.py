"""Series as networks read them: returns, ranges, missing values filled, scaled.

Axis letters: T steps of a series, D values per step.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


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
    models". A day without a range is treated as one with a range of a hundredth of a percent.

    Raises:
        ValueError: a price is not positive, or a low is above its high.
    """
    if not ((low > 0) & (low <= high)).all():
        raise ValueError("low prices must be positive and no higher than the high ones")
    return np.log(np.maximum(np.log(high / low), 1e-4))


def exponential_average(
    values: Float64[np.ndarray, " T"], decay: float
) -> Float64[np.ndarray, " T"]:
    """Return a_t = decay a_{t-1} + (1 - decay) x_t, starting with a_0 = x_0."""
    from scipy.signal import lfilter

    return lfilter([1 - decay], [1, -decay], values, zi=[decay * values[0]])[0]


def carried_forward(values: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
    """Return the values with each missing value (NaN) replaced by the last value before it.

    Interpolation would look ahead. Values missing at the beginning remain NaN.
    """
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[last]


class Scaling(NamedTuple):
    """The mean and standard deviation of a training part, which scale x to (x - mean) / std."""

    mean: Float64[np.ndarray, " D"]
    std: Float64[np.ndarray, " D"]

    @classmethod
    def fit(cls, values: Float64[np.ndarray, "T D"]) -> "Scaling":
        """Return the scaling of a training part; a constant column is only shifted."""
        std = values.std(0)
        return cls(values.mean(0), np.where(std > 1e-12 * np.abs(values).max(0), std, 1.0))

    @classmethod
    def from_lists(cls, kept: Mapping[str, Sequence[float]]) -> "Scaling":
        """Return the scaling from what `as_lists` returned."""
        return cls(np.array(kept["mean"]), np.array(kept["std"]))

    def as_lists(self) -> dict[str, list[float]]:
        """Return the scaling as a run saves it."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @property
    def first(self) -> "Scaling":
        """The scaling of the first column alone, `[1]`."""
        return Scaling(self.mean[:1], self.std[:1])

    def apply(self, values: Float64[np.ndarray, "*n D"]) -> Float64[np.ndarray, "*n D"]:
        """Return scaled values."""
        return (values - self.mean) / self.std

    def undo(self, scaled: Float64[np.ndarray, "*n D"]) -> Float64[np.ndarray, "*n D"]:
        """Return the original values of scaled values."""
        return scaled * self.std + self.mean
