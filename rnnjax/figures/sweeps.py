"""Results of a search over settings: quantities over a grid, and all settings side by side."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from rnnjax.figures import drawing, styles


def heat_maps(
    table: drawing.Table,
    x: str,
    y: str,
    value: str,
    *,
    panel: str | None = None,
    columns: int | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
    label: str,
    log: bool = False,
    symmetric: bool = False,
    not_finite: str | None = None,
    xs: Sequence[Any] | None = None,
    ys: Sequence[Any] | None = None,
    borders: str | None = None,
) -> Figure:
    """Draw a quantity over a grid as one heat map per panel, all on one scale.

    Args:
        table: columns `x`, `y` and `value`, in any order of rows; missing values and values that
            are not finite are white. Rows and columns of the map have equal widths; numbers are
            sorted, words are in order of first appearance.
        panel: name of the column with the panel; panels are in order of first appearance.
        columns: panels per row; None means all of them.
        names: titles by value of `panel`, and labels of words on the axes; the default is
            `styles.label`.
        xlabel, ylabel, label: labels of the axes and of the colour bar.
        log: a logarithmic colour scale.
        symmetric: a diverging colour scale, symmetric around zero; not with `log`.
        not_finite: the name of values that are not finite: their cells are crossed, and the crosses
            explained below the panels. None means no crosses.
        xs, ys: the values on the axes, in order, if they are more than the table's.
        borders: name of a column that groups the values of x: white lines stand where it changes.

    Raises:
        ValueError: both `log` and `symmetric`.
    """
    if log and symmetric:
        raise ValueError("a scale cannot be both log and symmetric; give one of them")
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), columns, sharey=True)
    scale = _scale(table[value], log, symmetric)
    ys = ys or _in_order(table[y])  # of all panels, which share the axis
    image: Any = None
    crosses: list[Any] = []
    for ax, part in zip(axes, parts, strict=True):
        across = xs or _in_order(part[x])
        column, row = _places(across, part[x]), _places(ys, part[y])
        finite = np.isfinite(part[value])
        grid = np.full((len(ys), len(across)), np.nan)
        grid[row, column] = np.where(finite, part[value], np.nan)
        colours = styles.DIVERGING if symmetric else styles.SEQUENTIAL
        image = ax.pcolormesh(grid, norm=scale, cmap=colours)
        image.set_rasterized(True)
        ax.grid(False)
        if not_finite and not finite.all():
            at = column[~finite] + 0.5, row[~finite] + 0.5
            crosses = ax.plot(*at, "x", color="0.45", markersize=7, label=not_finite)
        if borders is not None:
            group = dict(zip(column.tolist(), part[borders].tolist(), strict=True))
            ends = [i for i in sorted(group) if i and group.get(i - 1, group[i]) != group[i]]
            ax.vlines(ends, 0, len(ys), color="white", linewidth=1.5)
        drawing.ticks(ax.xaxis, across, names=names)
        drawing.ticks(ax.yaxis, ys, names=names)
        ax.set(xlabel=xlabel)
        if ax.get_subplotspec().is_first_col():
            ax.set(ylabel=ylabel)
        if panel is not None:
            ax.set(title=styles.label(part[panel][0], names))
    figure.colorbar(image, ax=list(axes), label=label)
    if crosses:
        figure.legend(handles=crosses, loc="outside lower center", frameon=False, fontsize="small")
    return figure


def parallel_coordinates(
    table: drawing.Table,
    columns: Sequence[str],
    value: str,
    *,
    log: Collection[str] = (),
    largest: bool = False,
    state: str | None = None,
    names: Mapping[Any, str] | None = None,
    label: str,
    log_value: bool = False,
) -> Figure:
    """Draw each row as a line across one axis per column, to its value on a colour bar.

    The best row is thick. A row whose value is not finite is grey and ends at the last axis.

    Args:
        table: the columns and `value`. Rows that lack one of the columns (not finite, or an empty
            word) are left out.
        columns: from left to right. A column of words has an axis with its different values, in
            order of first appearance, the first on top; words that are numbers are sorted.
        value: name of the column with the result.
        log: the columns with a logarithmic axis; all their values are positive.
        largest: the largest value is the best, not the smallest.
        state: name of the column with the state of rows whose value is not finite; each state has
            its own dashes.
        names: titles of columns and labels of words; the default is `styles.label`.
        label: label of the colour bar.
        log_value: a logarithmic colour scale, if all values are positive.
    """
    names = names or {}
    kept = np.all([_is_there(table[name]) for name in columns], axis=0)
    table = {name: np.asarray(column)[kept] for name, column in table.items()}
    figure = Figure(figsize=(2.4 + 1.9 * len(columns), 4.4), layout="constrained")
    ax = figure.subplots()
    values = table[value]
    finite = np.isfinite(values)
    scale = _scale(values, log_value and bool(np.all(values[finite] > 0)), False)
    colours = ScalarMappable(scale, styles.SEQUENTIAL if largest else f"{styles.SEQUENTIAL}_r")
    heights = [
        _upright(ax, place, table[name], names, name in log) for place, name in enumerate(columns)
    ]
    across = np.arange(len(columns) + 1)
    for row in np.flatnonzero(~finite):
        kind = str(table[state][row]) if state else "no value"
        style = {"pruned": ":"}.get(kind, (0, (4, 3)))
        line = [height[row] for height in heights]
        ax.plot(across[:-1], line, color="0.6", linewidth=0.9, linestyle=style, label=kind)
    from_best = np.argsort(values * (-1 if largest else 1), kind="stable")  # first of equal ones
    from_worst = from_best[finite[from_best]][::-1]
    for row in from_worst:
        line = [*(height[row] for height in heights), float(scale(values[row]))]
        best = row == from_worst[-1]
        options: dict[str, Any] = {"alpha": 0.75, "linewidth": 1.2, "solid_capstyle": "round"}
        if best:
            around = [patheffects.withStroke(linewidth=5, foreground="black")]
            options = {"linewidth": 3, "path_effects": around, "label": "best", "zorder": 4}
        ax.plot(across, line, color=colours.to_rgba(values[row]), clip_on=False, **options)
    ax.set(xlim=(-0.05, len(columns)), ylim=(0, 1))
    ax.set_xticks(across[:-1], [names.get(name, name) for name in columns])
    ax.tick_params(axis="x", length=0, pad=10)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    figure.colorbar(colours, ax=ax, label=label, pad=0, fraction=0.06, aspect=25)
    legend = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if legend:
        where = {"loc": "outside lower center", "ncols": len(legend), "fontsize": "small"}
        figure.legend(legend.values(), legend.keys(), frameon=False, **where)
    return figure


def _is_there(column):
    column = np.asarray(column)
    return column != "" if column.dtype.kind in "US" else np.isfinite(column)


def _upright(ax, place, column, names, log):
    """Draw an upright axis with its ticks, and return the heights of a column's entries."""
    if column.dtype.kind in "US":
        different = _numbers_first(drawing.unique(column)[::-1])
        height = {word: (i + 0.5) / len(different) for i, word in enumerate(different)}
        heights = np.array([height[word] for word in column.tolist()])
        ticks = {_written(word, names): at for word, at in height.items()}
    else:
        low, high = (column.min(), column.max()) if column.size else (1.0, 1.0)
        turned = np.log if log else np.asarray
        shown = _ticks(column, low, high, log)
        start, length = turned(low), turned(high) - turned(low)

        def height_of(x):
            return (turned(x) - start) / length * 0.92 + 0.04 if length else 0.5 + 0 * turned(x)

        heights = height_of(column)
        ticks = {styles.number(t): float(height_of(t)) for t in shown}
    ax.axvline(place, color="0.3", linewidth=1, zorder=3)
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
    for text, at in ticks.items():
        ax.plot([place], [at], "_", color="0.3", markersize=7, zorder=3)
        options: dict[str, Any] = {"va": "center", "fontsize": "small", "bbox": box, "zorder": 5}
        ax.annotate(text, (place, at), (5, 0), textcoords="offset points", **options)
    return heights


def _ticks(column, low, high, log, most=8):
    """Return what to label on an axis: the values if they are few, else round ones between."""
    few = np.unique(column)
    if 0 < len(few) <= most:
        return few
    locator = LogLocator() if log else MaxNLocator(5)
    shown = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    return shown if len(shown) > 1 else [low, high]


def _numbers_first(words):
    """Return words in order, those that are numbers before the others and from small to large."""
    numbers = {word: number for word in words if (number := _number(word)) is not None}
    return [
        *sorted(numbers, key=lambda word: numbers[word]),
        *(w for w in words if w not in numbers),
    ]


def _written(word, names):
    number = _number(word)
    return styles.label(word if number is None or word in names else number, names, 3)


def _number(word):
    """Return the finite number that a word is, or None."""
    try:
        return float(word) if np.isfinite(float(word)) else None
    except ValueError:
        return None


def _scale(values, log, symmetric) -> Any:
    """Return the scale of colours from the least to the largest value that it can show."""
    known = values[np.isfinite(values)]
    known = known[known > 0] if log else known
    low, high = (known.min(), known.max()) if known.size else (1, 10)
    if symmetric:
        high = max(abs(low), abs(high)) or 1
        low = -high
    high = high if high > low else low + (abs(low) or 1) * 1e-6
    return LogNorm(low, high) if log else Normalize(low, high)


def _in_order(column):
    """Return the different values: numbers sorted, words in order of first appearance."""
    different = drawing.unique(column)
    return different if isinstance(different[0], str) else sorted(different)


def _places(values, column):
    """Return where each entry of a column is among the values."""
    place = {value: i for i, value in enumerate(values)}
    return np.array([place[value] for value in np.asarray(column).tolist()])
