"""Checks of single options, with messages that name the option as it is typed."""

import itertools
import math
from typing import Any

from rnnjax.command_line.errors import ArgumentError


def option(name: str) -> str:
    """Return the name of a field as it is typed: `--batch-size`."""
    return "--" + name.replace("_", "-")


LARGEST = 10**9  # of what is counted: far above every use, and still quick to refuse


def at_least(least: int, config: Any, *names: str, most: int = LARGEST) -> None:
    """Raise an ArgumentError for the first named option that is not a number in `least`..`most`."""
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise ArgumentError(f"{option(name)} must be at least {least}, got {value}")
        if value > most:
            raise ArgumentError(f"{option(name)} must be at most {most}, got {value}")


def positive(config: Any, *names: str, most: int | float = math.inf) -> None:
    """Raise an ArgumentError for the first named option that is not positive and finite.

    Args:
        most: no number may be larger than this.
    """
    for name in names:
        value = getattr(config, name)
        if not (0 < value < math.inf and value <= most):
            allowed = f"at most {most:g}" if most < math.inf else "finite"
            raise ArgumentError(f"{option(name)} must be positive and {allowed}, got {value}")


def fraction(config: Any, *names: str) -> None:
    """Raise an ArgumentError for the first named option that is not strictly between 0 and 1."""
    for name in names:
        if not 0 < getattr(config, name) < 1:
            raise ArgumentError(
                f"{option(name)} must lie between 0 and 1, got {getattr(config, name)}"
            )


def distinct(config: Any, *names: str) -> None:
    """Raise an ArgumentError for the first named option that is empty or repeats a value."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            given = " ".join(map(str, values)) or "none"
            raise ArgumentError(f"{option(name)} needs one or more values, each once, got {given}")


def finite(
    config: Any, *names: str, above: int | float = -math.inf, most: int | float = math.inf
) -> None:
    """Raise an ArgumentError for the first named option that is not distinct finite numbers.

    Args:
        above: every number must be larger than this.
        most: no number may be larger than this.
    """
    distinct(config, *names)
    for name in names:
        values = getattr(config, name)
        if not all(above < value < math.inf and value <= most for value in values):
            kinds = {-math.inf: "finite", 0: "positive and finite"}
            allowed = kinds.get(above, f"finite and above {above:g}")
            allowed += f", at most {most:g}" if most < math.inf else ""
            given = " ".join(map(str, values))
            raise ArgumentError(f"{option(name)} must be {allowed}, each once, got {given}")


def rising(config: Any, *names: str) -> None:
    """Raise an ArgumentError unless the numbers of the named options are finite and rise.

    Of one option, all its values; of several, their numbers one after the other.
    """
    values: list[Any] = []
    for name in names:
        value = getattr(config, name)
        values += value if isinstance(value, tuple) else [value]
    ends = [-math.inf, *values, math.inf]
    if not all(a < b for a, b in itertools.pairwise(ends)):
        given = " ".join(map(str, values))
        named = " and ".join(map(option, names))
        raise ArgumentError(f"{named} must be finite and in rising order, got {given}")
