"""Parameters of which the default run of the tests takes a few, and the slow run the others."""

import itertools
from collections.abc import Iterable, Mapping

import pytest


def slow_but_for(quick: str | Iterable[str], values: Iterable | Mapping) -> list:
    """Return parameters of `pytest.mark.parametrize`; all but the quick ones are marked slow.

    Args:
        quick: the name, or the names, of the values that the default run tests.
        values: names, or values by name.
    """
    quick = {quick} if isinstance(quick, str) else {*quick}
    by_name = dict(values) if isinstance(values, Mapping) else {name: name for name in values}
    assert quick <= {*by_name}, f"{quick - {*by_name}} is not among {[*by_name]}"
    return [
        pytest.param(value, id=str(name), marks=() if name in quick else pytest.mark.slow)
        for name, value in by_name.items()
    ]


def in_turn(*values: Iterable | Mapping, quick: int = 1) -> list:
    """Return parameters in which every value of every argument occurs, not every combination.

    All but the first `quick` are marked slow.

    Args:
        values: names, or values by name, of one argument of the test each.
    """
    named = [
        [*v.items()] if isinstance(v, Mapping) else [(str(name), name) for name in v]
        for v in values
    ]
    count = max(map(len, named))
    rows = zip(*(itertools.islice(itertools.cycle(v), count) for v in named), strict=True)
    return [
        pytest.param(
            *(value for _, value in row),
            id="-".join(name for name, _ in row),
            marks=() if i < quick else pytest.mark.slow,
        )
        for i, row in enumerate(rows)
    ]
