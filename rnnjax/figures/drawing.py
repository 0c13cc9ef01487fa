"""What figures are made of: panels, lines with bands, axes, names and colours, rows of tables."""

import itertools
import re
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

Table = Mapping[str, np.ndarray]

COLOURS = {"elman": "#c44e52", "lstm": "#4c72b0", "gru": "#55a868"}
MORE_COLOURS = "#dd8452", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd"
NAMES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}
LN10 = np.log(10)


def panels(count, columns=None, **options):
    """Return a figure without a window, and its axes, in one row or as many as `columns` leave."""
    across = min(count, columns or count)
    rows = -(-count // across)
    size = 1 + 4 * across if across > 1 else 6.4, 3.8 * rows
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False, **options).ravel()
    for ax in axes[count:]:
        ax.remove()
    for ax in axes[:count]:
        ax.grid(alpha=0.3)
    return figure, axes[:count]


def line_with_band(ax: Axes, x, rows, colour, label, *, scale=1.0, linestyle="-"):
    """Draw a median and its quartiles; entries that are not finite are left out."""
    middle, low, high = (
        np.where(np.isfinite(rows[name]), rows[name] * scale, np.nan)
        for name in ("median", "q25", "q75")
    )
    finite = np.isfinite(middle)
    around = np.pad(finite, 1)
    beside = around[:-2] | around[2:]
    alone = np.flatnonzero(finite & ~beside).tolist()  # a line needs two points
    marks: dict = {"marker": ".", "markevery": alone} if alone else {}
    ax.plot(x, middle, color=colour, label=label, linestyle=linestyle, **marks)
    if finite.any():  # the axis shows where the others would be
        ends, height = (np.min(x), np.max(x)), middle[finite][0]
        ax.update_datalim([(end, height) for end in ends])
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def ticks(axis, values, most=9, names=None):
    """Label the centres of the equal cells of a heat map: all words, as many numbers as fit."""
    words = isinstance(values[0], str)
    texts = [label(value, names, 3) for value in values]
    wide = max(len(re.sub(r"[${}^]|\\cdot", "", text)) for text in texts)
    if axis.axis_name == "x":
        most = max(2, min(most, 48 // (wide + 2)))
    every = 1 if words else -(-len(values) // most)
    places = np.arange(0, len(values), every)
    axis.set_ticks(places + 0.5, texts[::every])
    if words and axis.axis_name == "x" and len(values) > most:
        axis.set_tick_params(rotation=30)


def edges(centres):
    """Return the edges of the cells around increasing centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.array([2 * centres[0] - middles[0], *middles, 2 * centres[-1] - middles[-1]])


def powers_of_ten(ax):
    """Label the y axis, of logarithms to base ten, with the numbers themselves."""
    ax.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"$10^{{{y:.3g}}}$"))


def rows(table, **where):
    """Return the rows of a table in which every named column has the given value."""
    chosen = np.all([table[name] == value for name, value in where.items()], axis=0)
    return {name: np.asarray(column)[chosen] for name, column in table.items()}


def split(table, column):
    """Return the parts of a table by the value of a column, or the whole for None."""
    if column is None:
        return [table]
    return [rows(table, **{column: value}) for value in unique(table[column])]


def unique(column):
    """Return the different values of a column in order of first appearance."""
    return list(dict.fromkeys(np.asarray(column).tolist()))


def colours(cells):
    """Return a colour for each of the cells, the same in every figure for those of the library."""
    more = itertools.cycle(MORE_COLOURS)
    return {cell: COLOURS.get(cell) or next(more) for cell in unique(cells)}


def name(cell):
    """Return a cell's name as it is written in print."""
    return NAMES.get(cell) or cell


def label(value, names=None, digits=6) -> str:
    """Return what stands in `names` for a value, or the value."""
    if names and value in names:
        return names[value]
    return name(value) if isinstance(value, str) else number(value, digits)


def number(value, digits=3) -> str:
    """Return a number as a person writes it: 0.03, 1000, 3.2·10⁻⁵."""
    if abs(value) < 1e5 and value == round(value):
        return f"{value:g}"
    mantissa, _, power = f"{value:.{digits}g}".partition("e")
    if not power:
        return mantissa
    times = "" if mantissa == "1" else rf"{mantissa}\cdot "
    return f"${times}10^{{{int(power)}}}$"
