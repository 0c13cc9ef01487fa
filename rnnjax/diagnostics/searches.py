"""Searches along a line: where a condition changes, where a function rises, where it is steepest.

Each finds what a grid misses: a feature can be arbitrarily narrow.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

Function = Callable[[np.ndarray], Any]


def bisect(low: Any, high: Any, condition: Callable[[np.ndarray], Any], rounds: int = 45) -> Any:
    """Return where a condition, false at `low` and true at `high`, changes; elementwise.

    The error is (high - low) / 2^(rounds + 1).

    Args:
        low, high: numbers or arrays that broadcast.
        condition: of an array of places to an array of truth values.
        rounds: how often the interval is halved.
    """
    low, high = np.broadcast_arrays(np.float64(low), np.float64(high))
    for _ in range(rounds):
        middle = (low + high) / 2
        true = condition(middle)
        low, high = np.where(true, low, middle), np.where(true, middle, high)
    return (low + high) / 2


def refine(
    function: Function, low: float, high: float, rise: float, points: int = 128
) -> Float[np.ndarray, " n"]:
    """Return places so dense that a function rises by less than `rise` from one to the next.

    Gaps that are too wide are halved. A function that never falls has at most (f(high) - f(low)) /
    rise of them in every round, so that a jump is found however narrow it is, and costs as little.
    A gap that float64 cannot halve stays.

    Args:
        function: of `points` places to as many values; it never falls.
        low, high: the ends of the line.
        rise: positive.
        points: places to begin with, evenly spaced. Every call of `function` has so many.

    Raises:
        ValueError: a round has more gaps to halve than `points`: the function falls somewhere, or
            `rise` is too small for so few points.
    """
    start = np.linspace(low, high, points)
    known = dict(zip(start, np.asarray(function(start)), strict=True))
    while True:
        places = np.array(sorted(known))
        wide = np.diff([known[place] for place in places]) >= rise
        middles = np.setdiff1d((places[1:] + places[:-1])[wide] / 2, places)
        if not middles.size:
            return places
        if middles.size > points:
            raise ValueError(f"{middles.size} gaps rise by {rise} or more; points is {points}")
        values = np.asarray(function(np.resize(middles, points)))[: middles.size]
        known |= zip(middles, values, strict=True)


def peak(
    function: Function, places: Float[np.ndarray, " n"], points: int = 128, rounds: int = 5
) -> tuple[float, float]:
    """Return where a function is largest, and its value there.

    The largest of the known places is enclosed by its neighbours, and the interval between them
    is divided into `points`; and so on.

    Args:
        function: of an array of places to as many values.
        places: in rising order, so dense that the largest is next to the peak, as from `refine`.
        points: places in every later round.
        rounds: how often the interval is divided.
    """
    values = np.asarray(function(places))
    for _ in range(rounds):
        at = int(np.argmax(values))
        places = np.linspace(places[max(0, at - 1)], places[min(at + 1, len(values) - 1)], points)
        values = np.asarray(function(places))
    at = int(np.argmax(values))
    return float(places[at]), float(values[at])
