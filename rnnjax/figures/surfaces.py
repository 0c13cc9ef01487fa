"""Loss surfaces, with the paths of optimisers on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from rnnjax.figures import drawing, styles

PATHS = ("#ffffff", "-"), ("#ff8ad8", "--"), ("#ffb000", "-."), ("#ff3b3b", ":")  # on the maps
DECADES = 6  # of a loss that are told apart, down from its largest value


def loss_surface(
    table: drawing.Table,
    x: str,
    y: str,
    paths: drawing.Table | None = None,
    *,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw a loss and the norm of its gradient over a plane, and paths of optimisers through it.

    Both have logarithmic colours, unless the loss is not positive everywhere; a loss below a
    millionth of the largest has the last colour. Values that are not finite, and gradients of
    exactly zero, are white. A path begins at a circle and ends at a square; points outside the
    plane are cut off.

    Args:
        table: columns `x`, `y`, `loss` and `log_gradient_norm` (natural logs), in any order of
            rows, as `diagnostics.surface` gives them.
        x, y: names of the columns of coordinates in `table` and `paths`.
        paths: columns `path`, `x` and `y`, the points of each path in order of steps.
        names: labels by value of `path`; the default is `styles.label`.
        xlabel, ylabel: labels of the axes.
    """
    figure, axes = drawing.panels(2, sharex=True, sharey=True)
    xs, column = np.unique(table[x], return_inverse=True)
    ys, row = np.unique(table[y], return_inverse=True)
    gradients = np.asarray(table["log_gradient_norm"]) / drawing.LN10
    shown = ((table["loss"], _scale(table["loss"]), "loss"), (gradients, None, "gradient norm"))
    for ax, (values, scale, title) in zip(axes, shown, strict=True):
        grid = np.full((len(ys), len(xs)), np.nan)
        grid[row, column] = np.where(np.isfinite(values), values, np.nan)
        image = ax.pcolormesh(
            drawing.edges(xs), drawing.edges(ys), grid, norm=scale, cmap=styles.SEQUENTIAL
        )
        image.set_rasterized(True)
        bar = figure.colorbar(image, ax=ax)
        if scale is None:
            drawing.powers_of_ten(bar.ax)
        ax.grid(False)
        _draw_paths(ax, paths, x, y, names)
        ends = drawing.edges(xs)[[0, -1]], drawing.edges(ys)[[0, -1]]
        ax.set(title=title, xlabel=xlabel, xlim=ends[0], ylim=ends[1])
    axes[0].set(ylabel=ylabel)
    if paths is not None:
        lines = axes[0].get_legend_handles_labels()
        options: dict[str, Any] = {"facecolor": "#555555", "labelcolor": "white"}
        figure.legend(*lines, loc="outside lower center", ncols=len(lines[0]), **options)
    return figure


def _scale(losses):
    known = losses[np.isfinite(losses)]
    if not known.size or known.min() <= 0:
        return Normalize()
    high = known.max()
    return LogNorm(max(known.min(), high * 10.0**-DECADES) * (1 - 1e-6), high)


def _draw_paths(ax, paths, x, y, names):
    for i, part in enumerate([] if paths is None else drawing.split(paths, "path")):
        colour, dashes = PATHS[i % len(PATHS)]
        label = styles.label(part["path"][0], names)
        ax.plot(part[x], part[y], color=colour, linestyle=dashes, label=label, linewidth=1)
        for at, marker in ((0, "o"), (-1, "s")):
            style = {"marker": marker, "markersize": 5, "markeredgecolor": "black"}
            ax.plot(part[x][at], part[y][at], color=colour, **style)
