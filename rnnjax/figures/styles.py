"""How a series looks: its label, colour, marker and dashes, decided by its name in one place.

Series differ by marker as well as by colour, so that a figure can be read in grey. The colours are
those of Okabe and Ito, which the common kinds of colour blindness leave apart: Okabe, Ito 2008,
"Color Universal Design". The dashes are for figures without markers; elsewhere a solid line is a
measurement, a dashed one a theory or a reference, and a dotted one a fit.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

VERMILION, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"
ORANGE, SKY, PURPLE, GREY = "#E69F00", "#56B4E9", "#CC79A7", "#4D4D4D"
INDIGO = "#4B00E1"  # far from the others, also for those who see no green

COLOURS = {"elman": VERMILION, "lstm": BLUE, "gru": GREEN}
SEQUENTIAL = "viridis"  # perceptually uniform
DIVERGING = "RdBu_r"  # lightness falls alike to either side of zero
LAG = "lag k = T - t (steps before the end)"

_FORM = re.compile("(residual_)?(deep_)?(bidirectional_)?")  # may be empty
_NAMES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}
_MARKERS = {"elman": "o", "lstm": "s", "gru": "^"}
_DASHES = {"elman": "-", "lstm": "--", "gru": "-."}
_MORE_COLOURS = ORANGE, PURPLE, SKY, GREY, BLUE, VERMILION, GREEN, INDIGO
_MORE_MARKERS = "D", "v", "P", "X", "<", "*", ">", "h", "p"  # with the colours 72 combinations
_MORE_DASHES = ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)), (0, (3, 1, 1, 1))


class Style(NamedTuple):
    """How one series is drawn."""

    label: str
    colour: str
    marker: str
    dashes: Any  # a line style of matplotlib
    place: int  # among the series of the figure


def series(values: Iterable[Any], names: Mapping[Any, str] | None = None) -> dict[Any, Style]:
    """Return a style for each different value, in order of first appearance.

    The first three cells look the same in every figure, and so does a network of one that stands
    for its cell: `residual_lstm` in a figure with no other LSTM. Other series take the remaining
    colours and markers in turn.

    Args:
        values: names of series, such as cells; numbers are allowed.
        names: labels by value. A value without one is labelled by `name` or `number`; where two
            labels would be equal, as for "a.py:MyCell" and "b.py:MyCell", by its whole name.
    """
    values = list(dict.fromkeys(values))
    labels = [label(value, names) for value in values]
    cells = [value[_form(value) :] if isinstance(value, str) else value for value in values]
    colours, markers = itertools.cycle(_MORE_COLOURS), itertools.cycle(_MORE_MARKERS)
    dashes = itertools.cycle(_MORE_DASHES)
    found = {}
    for place, (value, short) in enumerate(zip(values, labels, strict=True)):
        text = short if labels.count(short) == 1 else (names or {}).get(value, str(value))
        cell = cells[place] if cells.count(cells[place]) == 1 else value
        if cell in COLOURS:
            colour, marker, dash = COLOURS[cell], _MARKERS[cell], _DASHES[cell]
        else:
            colour, marker, dash = next(colours), next(markers), next(dashes)
        found[value] = Style(text, colour, marker, dash, place)
    return found


def _form(series):
    """Return how many characters of a network's name are its form: 5 of `deep_gru`."""
    return _FORM.match(series).end()  # pyright: ignore[reportOptionalMemberAccess]


def name(series: str) -> str:
    """Return the name of a cell or another series in print: "lstm" is "LSTM".

    A cell in a file or module of the user's own has the name of its class: "./mine.py:MyCell" and
    "mine:MyCell" are "MyCell". A network of it keeps its form: "deep_mine:MyCell" is "deep MyCell".
    """
    form = series[: _form(series)]
    cell = series.removeprefix(form)
    own = re.fullmatch(r"(?:[\w.]+|.*\.py):([^\W\d]\w*)", cell)
    if own or cell in _NAMES:
        return form.replace("_", " ") + (own[1] if own else _NAMES[cell])
    return series


def label(value: Any, names: Mapping[Any, str] | None = None, digits: int = 6) -> str:
    """Return the label of a value: its entry in `names`, else its name or number in print."""
    if names and value in names:
        return names[value]
    return name(value) if isinstance(value, str) else number(value, digits)


def number(value: float, digits: int = 3) -> str:
    """Return a number as people write it: 0.03, 1000, 3.2·10⁻⁵."""
    if abs(value) < 1e5 and value == round(value):
        return f"{value:g}"
    mantissa, _, power = f"{value:.{digits}g}".partition("e")
    if not power:
        return mantissa
    times = "" if mantissa == "1" else rf"{mantissa}\cdot "
    return f"${times}10^{{{int(power)}}}$"
