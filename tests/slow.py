"""Parameters of which the default run of the tests takes a few, and the slow run the others."""

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
