"""Trajectories of different durations: their speed, and how near they are at one phase or time."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def mean_speed(path: Float[np.ndarray, "T N"]) -> float:
    """Return the mean of ||s_{t+1} - s_t|| over the steps of a trajectory, at least one."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).mean())


def at_phases(path: Float[np.ndarray, "T N"], num: int = 50) -> Float[np.ndarray, "num N"]:
    """Return the states of a trajectory at evenly spaced phases, 0 at its start and 1 at its end.

    Between two steps states are interpolated linearly.
    """
    steps, phases = np.linspace(0, 1, len(path)), np.linspace(0, 1, num)
    return np.stack([np.interp(phases, steps, column) for column in path.T], axis=1)


def mean_distance(paths: Sequence[Float[np.ndarray, "_ N"]]) -> float:
    """Return the distance of two trajectories at the same time since their start.

    It is the mean over the time that both of them last, and over all pairs.
    """
    found = []
    for a, b in itertools.combinations(paths, 2):
        shared = min(len(a), len(b))
        found.append(np.linalg.norm(a[:shared] - b[:shared], axis=1).mean())
    return float(np.mean(found))


def first_crossing(values: Float[np.ndarray, " T"]) -> float:
    """Return when values first become positive: where the line between two steps crosses zero.

    NaN if they never do, or are positive from the start.
    """
    after = int(np.argmax(values > 0))
    if not after:
        return float("nan")
    return float(after - values[after] / (values[after] - values[after - 1]))
