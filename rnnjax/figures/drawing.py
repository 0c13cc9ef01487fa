"""What figures are made of: panels, lines with bands, axes, rows of tables."""

import re
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rnnjax.figures.styles import Style, label

Table = Mapping[str, np.ndarray]

LN10 = np.log(10)


def panels(count, columns=None, **options):
    """Return a figure without a window, and its axes, in one row or with `columns` per row."""
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


def line_with_band(ax: Axes, x, rows, style: Style, label=None, *, scale=1.0, linestyle="-"):
    """Draw a median with markers, and its quartiles; entries that are not finite are left out."""
    middle, low, high = (
        np.where(np.isfinite(rows[name]), rows[name] * scale, np.nan)
        for name in ("median", "q25", "q75")
    )
    ax.plot(
        x,
        middle,
        color=style.colour,
        label=style.label if label is None else label,
        linestyle=linestyle,
        **markers(middle, style),
    )
    finite = np.isfinite(middle)
    if finite.any():  # the axis includes the entries that are left out
        ends, height = (np.min(x), np.max(x)), middle[finite][0]
        ax.update_datalim([(end, height) for end in ends])
    ax.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)


def markers(values, style: Style, about=8) -> dict:
    """Return options of `Axes.plot`: a few markers along a line, and one on each lone point.

    The markers of different series are at different places, so that none hides another.
    """
    finite = np.isfinite(values)
    places = np.flatnonzero(finite)
    every = max(1, len(places) // about)
    start = style.place * max(1, every // 3) % every
    around = np.pad(finite, 1)
    alone = np.flatnonzero(finite & ~(around[:-2] | around[2:]))  # a line needs two points
    shown = np.union1d(places[start::every], alone).astype(int).tolist()
    return {"marker": style.marker, "markevery": shown, "markersize": 5}


def ticks(axis, values, most=9, names=None):
    """Label the centres of the cells of a heat map: all words, or as many numbers as fit."""
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
    """Label the y axis, which shows base-ten logarithms, with powers of ten."""
    ax.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"$10^{{{y:.3g}}}$"))


def rows(table, **where):
    """Return the rows of a table in which every named column has the given value."""
    if not where:
        return {name: np.asarray(column) for name, column in table.items()}
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
