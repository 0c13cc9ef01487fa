"""The values that a search tries: `clip=0.5,1,5`, `learning_rate=log:1e-4:1e-1`.

lin:LOW:HIGH[:POINTS]  numbers in a range, uniform (whole numbers for an integer field)
log:LOW:HIGH[:POINTS]  the same, uniform in the logarithm
int:LOW:HIGH[:POINTS]  whole numbers; a grid without POINTS has every one
A,B,C                  these values; + joins the elements of a field that takes several: lstm+gru

POINTS is the number of values of a range in a grid; other samplers do not take it.
"""

import contextlib
import dataclasses
import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rnnjax.command_line import ArgumentError

MOST_TRIALS = 100_000
RANGES = "lin", "log", "int"
FORMS = "A,B,C or lin:LOW:HIGH, log:LOW:HIGH, int:LOW:HIGH"
PLUS = re.compile(r"(?<![0-9][eE])\+")  # not the + of 1e+5


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers between two limits, both included."""

    low: int | float
    high: int | float
    log: bool
    whole: bool
    points: int | None = None  # in a grid

    def suggest(self, trial: Any, name: str) -> Any:
        suggest = trial.suggest_int if self.whole else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)

    @property
    def count(self) -> int:
        """The number of points of a grid, or slightly more: some may be rounded to one."""
        return self.points or int(self.high) - int(self.low) + 1

    def grid(self) -> list[Any]:
        """Return the points of a grid in increasing order; the limits are exact."""
        if self.points is None:
            return list(range(int(self.low), int(self.high) + 1))
        if self.points == 1:
            return [self.low]
        fractions = [i / (self.points - 1) for i in range(1, self.points - 1)]
        if self.log:
            between = [self.low * (self.high / self.low) ** f for f in fractions]
        else:
            between = [self.low + (self.high - self.low) * f for f in fractions]
        points = [self.low, *between, self.high]
        return list(dict.fromkeys(round(p) for p in points)) if self.whole else points


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values: numbers, words, True, False or None; + joins several elements."""

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        return trial.suggest_categorical(name, self.values)

    @property
    def count(self) -> int:
        return len(self.values)

    def grid(self) -> list[Any]:
        return list(self.values)


Space = dict[str, Range | Choice]


def assignments(items: Sequence[str], option: str) -> dict[str, str]:
    """Split NAME=VALUE items typed after an option; - and _ in names are equivalent.

    Raises:
        ArgumentError: an item has no = or no value, or a name is repeated.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not (name and equals and value.strip()):
            raise ArgumentError(f"{option} takes FIELD=VALUE, got {item!r}")
        if name in found:
            raise ArgumentError(f"{option} names {name} twice: {found[name]} and {value}")
        found[name] = value.strip()
    return found


def parse(name: str, text: str, types: Collection[str], *, grid: bool) -> Range | Choice:
    """Parse the values that a search tries for a field.

    Args:
        name: of the field.
        text: as in this module's docstring.
        types: names of the types that the field takes: `int`, `float`, `bool`, `None`, or `word`;
            for a field that takes several values, the types of its elements and `tuple`.
        grid: whether the points of a range must be known.

    Raises:
        ArgumentError: the text has none of these forms, or the range is empty.
    """
    kind, *numbers = text.split(":")
    if kind not in RANGES:
        words = text.split(",")
        if not all(map(str.strip, words)):
            raise ArgumentError(f"--search {name} has an empty value in {text!r}; write {FORMS}")
        values = tuple(value(word.strip(), types) for word in words)
        if len(set(map(repr, values))) < len(values):
            raise ArgumentError(f"--search {name} repeats a value in {text!r}")
        return Choice(values)
    try:
        low, high, *rest = map(float, numbers[:2])
        points = int(numbers[2]) if len(numbers) == 3 else None
        if rest or len(numbers) > 3:
            raise ValueError
    except ValueError:
        raise ArgumentError(
            f"--search {name} must be {kind}:LOW:HIGH or {kind}:LOW:HIGH:POINTS, got {text!r}"
        ) from None
    if not {"int", "float"} & {*types}:
        raise ArgumentError(f"--search {name} takes no numbers, got the range {text!r}")
    whole = kind == "int" or "float" not in types
    _check(name, text, kind, low, high, whole)
    if points is not None and points < (1 if low == high else 2):
        raise ArgumentError(f"--search {name} needs at least 2 points, got {text!r}")
    if grid and points is None and kind != "int":
        raise ArgumentError(f"--search {name} needs a number of points in a grid, such as {text}:5")
    if points is not None and not grid:
        raise ArgumentError(
            f"--search {name}={text} has {points} points, which only --sampler grid takes; "
            f"give {kind}:{numbers[0]}:{numbers[1]}"
        )
    if whole:
        return Range(int(low), int(high), kind == "log", True, points)
    return Range(low, high, kind == "log", False, points)


def points(space: Space) -> list[dict[str, Any]]:
    """Return all points of the grid, the last field changing fastest.

    Raises:
        ArgumentError: there are more than `MOST_TRIALS`.
    """
    count = math.prod(part.count for part in space.values())
    if count > MOST_TRIALS:
        raise ArgumentError(
            f"--search has {count} points, and a sweep at most {MOST_TRIALS} trials; give fewer "
            "points, or --sampler random"
        )
    values = itertools.product(*(part.grid() for part in space.values()))
    return [dict(zip(space, point, strict=True)) for point in values]


def corners(space: Space) -> list[dict[str, Any]]:
    """Return points that together hold every choice and both limits of every range."""
    values = [
        [part.low, part.high] if isinstance(part, Range) else list(part.values)
        for part in space.values()
    ]
    count = max(map(len, values), default=0)
    return [
        {name: tried[i % len(tried)] for name, tried in zip(space, values, strict=True)}
        for i in range(count)
    ]


def value(word: str, types: Collection[str]) -> Any:
    """Convert a word to a type of the field; several elements stay one word."""
    if "tuple" in types:
        return word
    known = {"true": ("bool", True), "false": ("bool", False), "none": ("None", None)}
    kind, constant = known.get(word.lower(), (None, None))
    if kind in types:
        return constant
    for number in (int, float):
        if number.__name__ in types:
            with contextlib.suppress(ValueError):
                if math.isfinite(number(word)):
                    return number(word)
    return word


def text(value: Any) -> str:
    """Return a value as it is typed; a float as the shortest text that reads back exactly."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def elements(value: Any) -> list[str]:
    """Return the elements of a value of a field that takes several."""
    return PLUS.split(text(value))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line `NAME was OLD, now NEW` for each difference between two mappings."""
    found = []
    for name in [*old, *(n for n in new if n not in old)]:
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += [f"{name} {line}" for line in differences(before, now)]
            if not found and list(before) != list(now):
                found.append(f"the order of {name} was {' '.join(before)}, now {' '.join(now)}")
        elif before != now:
            old_text, new_text = ("not given" if v is None else v for v in (before, now))
            found.append(f"{name} was {old_text}, now {new_text}")
    return found


def _check(name, text, kind, low, high, whole):
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ArgumentError(f"--search {name} must go from a low number to a high one, got {text}")
    if kind == "log" and low <= 0:
        raise ArgumentError(f"--search {name} must be above 0 on a logarithmic scale, got {text}")
    if whole and not (low == int(low) and high == int(high)):
        raise ArgumentError(f"--search {name} must go between whole numbers, got {text}")
