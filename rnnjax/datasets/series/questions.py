"""Forecasts as a many-to-one network reads and answers them: scaled windows, minus their level.

Axis letters: T steps of a series, N forecasts, W window, H horizon, D values per step, the first of
which is forecast.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from rnnjax.datasets.series import forecasts
from rnnjax.datasets.series.transforms import Scaling


class Questions(NamedTuple):
    """What forecasts read and predict; the levels are to be added to a network's answers."""

    inputs: Float32[np.ndarray, "N W D"]
    targets: Float32[np.ndarray, "N H"]
    levels: Float32[np.ndarray, "N 1"]


def questions_at(
    values: Float64[np.ndarray, "T D"],
    scaling: Scaling,
    origins: Int[np.ndarray, " N"],
    window: int,
    horizon: int,
    decay: float | None = None,
) -> Questions:
    """Return the questions at some origins of a series.

    Args:
        values: of the series.
        scaling: of the values, fitted on a training part.
        origins: first steps to forecast.
        window: W.
        horizon: H.
        decay: of the `level` of each window, from which its first column and the targets are
            measured; None means a level of 0.
    """
    scaled = scaling.apply(values).astype(np.float32)
    inputs = forecasts.inputs(scaled, origins, window)
    levels = level(inputs, decay)
    inputs[:, :, 0] -= levels
    targets = forecasts.targets(scaled[:, 0], origins, horizon)
    return Questions(inputs, targets - levels, levels)


def last_question(
    values: Float64[np.ndarray, "T D"], scaling: Scaling, window: int, decay: float | None = None
) -> tuple[Float32[np.ndarray, "1 W D"], Float32[np.ndarray, "1 1"]]:
    """Return the inputs and the level of the forecast of what comes after a series."""
    inputs = scaling.apply(values)[None, -window:].astype(np.float32)
    levels = level(inputs, decay)
    inputs[:, :, 0] -= levels
    return inputs, levels


def level(windows: Float[np.ndarray, "N W D"], decay: float | None) -> Float32[np.ndarray, "N 1"]:
    """Return the exponential average of the first column of each window, or 0 without a decay.

    What was learned as distances from such a level in volatile years also fits calm ones.
    """
    if decay is None:
        return np.zeros((len(windows), 1), np.float32)
    weights = decay ** np.arange(windows.shape[1], dtype=np.float32)[::-1]
    return windows[:, :, 0] @ (weights / weights.sum())[:, None]
