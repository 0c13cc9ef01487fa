"""How long an epoch lasts: one number of milliseconds, or a distribution over them.

A duration of t ms lasts floor(t / dt) steps. Every distribution therefore becomes a finite table of
steps and their exact probabilities: what is sampled and the chance level come from the same table.
"""

import abc
import dataclasses
import math
import numbers
from typing import Any, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Milliseconds = int | float


def check_milliseconds(name: str, value: Any) -> None:
    """Raise a ValueError unless `value` is a finite number, zero or more."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not 0 <= float(value) < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")


def whole_steps(time: int | float, dt: int | float) -> int:
    """Return floor(t / dt), where a quotient within 1e-9 below an integer is that integer."""
    return math.floor(time / dt + 1e-9)


@dataclasses.dataclass(frozen=True)
class Distribution(abc.ABC):
    """A distribution of the duration of an epoch."""

    @abc.abstractmethod
    def table(self, dt: int | float) -> dict[int, float]:
        """Return the probability of every possible number of steps of `dt` ms."""


@final
@dataclasses.dataclass(frozen=True)
class Choice(Distribution):
    """One of several durations in ms, with equal odds.

    Raises:
        ValueError: there is no value, or one is negative or not finite.
    """

    values: tuple[Milliseconds, ...]

    def __post_init__(self):
        if not self.values:
            raise ValueError("values must hold at least one duration, got ()")
        for value in self.values:
            check_milliseconds("values", value)

    def table(self, dt: int | float) -> dict[int, float]:
        """Return the share of the values that last so many steps."""
        found: dict[int, float] = {}
        for value in self.values:
            steps = whole_steps(value, dt)
            found[steps] = found.get(steps, 0.0) + 1 / len(self.values)
        return found


@dataclasses.dataclass(frozen=True)
class Continuous(Distribution):
    """A distribution with a density over `low` to `high` ms."""

    @property
    @abc.abstractmethod
    def bounds(self) -> tuple[Milliseconds, Milliseconds]:
        """The shortest and the longest duration."""

    @abc.abstractmethod
    def below(self, time: int | float) -> float:
        """Return the probability of a duration below `time`, for a time within the bounds."""

    def check_bounds(self) -> None:
        """Raise a ValueError unless 0 <= low < high."""
        low, high = self.bounds
        check_milliseconds("low", low)
        check_milliseconds("high", high)
        if not low < high:
            raise ValueError(f"high must be more than low = {low!r}, got {high!r}")

    def table(self, dt: int | float) -> dict[int, float]:
        """Return the probability of k dt <= t < (k + 1) dt for every k."""
        low, high = self.bounds
        found = {}
        for k in range(whole_steps(low, dt), whole_steps(high, dt) + 1):
            mass = self.below(min((k + 1) * dt, high)) - self.below(max(k * dt, low))
            if mass > 1e-12:
                found[k] = mass
        return found


@final
@dataclasses.dataclass(frozen=True)
class Uniform(Continuous):
    """A duration uniform over `low` to `high` ms.

    Raises:
        ValueError: the bounds are negative, not finite, or not in order.
    """

    low: Milliseconds
    high: Milliseconds

    def __post_init__(self):
        self.check_bounds()

    @property
    def bounds(self) -> tuple[Milliseconds, Milliseconds]:
        return self.low, self.high

    def below(self, time: int | float) -> float:
        return (time - self.low) / (self.high - self.low)


@final
@dataclasses.dataclass(frozen=True)
class TruncatedExponential(Continuous):
    """An exponential duration, redrawn until it lies within `low` to `high` ms.

        p(t) = exp(-t / mean) / Z,    low <= t < high

    Args:
        mean: the mean of the exponential before it is truncated, in ms.
        low: the shortest duration.
        high: the longest.

    Raises:
        ValueError: the mean is not positive, or the bounds are negative, not finite, or not in
            order.
    """

    mean: Milliseconds
    low: Milliseconds
    high: Milliseconds

    def __post_init__(self):
        check_milliseconds("mean", self.mean)
        if self.mean == 0:
            raise ValueError(f"mean must be positive, got {self.mean!r}")
        self.check_bounds()

    @property
    def bounds(self) -> tuple[Milliseconds, Milliseconds]:
        return self.low, self.high

    def below(self, time: int | float) -> float:
        """Return the truncated distribution function; shifted to `low`, so that it never is 0/0."""
        width = (self.high - self.low) / self.mean
        return math.expm1(-(time - self.low) / self.mean) / math.expm1(-width)


Duration = int | float | Distribution


def step_table(duration: Duration, dt: int | float) -> tuple[np.ndarray, np.ndarray]:
    """Return the possible numbers of steps `[K]`, ascending, and their probabilities `[K]`."""
    if isinstance(duration, Distribution):
        found = sorted(duration.table(dt).items())
    else:
        found = [(whole_steps(duration, dt), 1.0)]
    steps, odds = zip(*found, strict=True)
    return np.array(steps, np.int32), np.array(odds) / sum(odds)


def steps_at(duration: Duration, dt: int | float, level: Float[Array, ""]) -> Int[Array, ""]:
    """Return the quantile of the table at a level: a random one, if that is uniform over [0, 1)."""
    steps, odds = step_table(duration, dt)
    if len(steps) == 1:
        return jnp.asarray(steps[0])
    edges = jnp.asarray(np.cumsum(odds)[:-1], jnp.float32)
    return jnp.asarray(steps)[jnp.sum(edges <= level)]
