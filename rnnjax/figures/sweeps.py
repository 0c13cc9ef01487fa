"""What a search over settings found: quantities over a grid."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from rnnjax.figures import drawing


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
) -> Figure:
    """Draw a quantity over a grid as one heat map for each panel, all on one scale.

    Args:
        table: columns `x`, `y` and `value`, in any order of rows; what is missing or not finite is
            left white. Rows and columns of the map have equal widths, whatever their distances;
            numbers are in order, words in order of first appearance.
        panel: name of the column that says which panel, in order of first appearance.
        columns: panels in a row; None means all of them.
        names: titles of values of `panel`, and of words on the axes; the value itself otherwise.
        xlabel, ylabel, label: of the axes and of the colours.
        log: a logarithmic scale of colours.
        symmetric: a scale of two colours around zero, as wide to either side; not with `log`.
        not_finite: what to call the cells whose value is there but not finite: they are crossed,
            and the crosses explained below the panels. None marks none.

    Raises:
        ValueError: both `log` and `symmetric`.
    """
    if log and symmetric:
        raise ValueError("a scale cannot be both log and symmetric; give one of them")
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), columns, sharey=True)
    scale = _scale(table[value], log, symmetric)
    ys = _in_order(table[y])  # of all panels, which share the axis
    image: Any = None
    crosses: list[Any] = []
    for ax, part in zip(axes, parts, strict=True):
        xs = _in_order(part[x])
        column, row = _places(xs, part[x]), _places(ys, part[y])
        finite = np.isfinite(part[value])
        grid = np.full((len(ys), len(xs)), np.nan)
        grid[row, column] = np.where(finite, part[value], np.nan)
        colours = "RdBu_r" if symmetric else "viridis"
        image = ax.pcolormesh(grid, norm=scale, cmap=colours)
        image.set_rasterized(True)
        ax.grid(False)
        if not_finite and not finite.all():
            at = column[~finite] + 0.5, row[~finite] + 0.5
            crosses = ax.plot(*at, "x", color="0.45", markersize=7, label=not_finite)
        drawing.ticks(ax.xaxis, xs, names=names)
        drawing.ticks(ax.yaxis, ys, names=names)
        ax.set(xlabel=xlabel)
        if ax.get_subplotspec().is_first_col():
            ax.set(ylabel=ylabel)
        if panel is not None:
            ax.set(title=drawing.label(part[panel][0], names))
    figure.colorbar(image, ax=list(axes), label=label)
    if crosses:
        figure.legend(handles=crosses, loc="outside lower center", frameon=False, fontsize="small")
    return figure


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
