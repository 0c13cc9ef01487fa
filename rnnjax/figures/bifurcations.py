"""Fixed points against a parameter, with the bifurcations marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from rnnjax.figures import drawing
from rnnjax.figures.tables import curves


def bifurcations(
    table: drawing.Table,
    nodes: Sequence[tuple[float, float]],
    crossing: tuple[float, float],
    *,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw branches of fixed points of one state against a bias, and where they end and meet.

    Args:
        table, names, xlabel, ylabel: as for `curves`, with columns `b`, the bias, `state`, the
            name of the branch, and `median`, its fixed point.
        nodes: bias and state of the saddle-nodes, from left to right, two of them.
        crossing: bias and state where the start x_0 of the network changes its basin, which makes a
            cliff in its error; the state is marked across the figure.
    """
    edge, start = crossing
    figure = curves(table, "b", "state", names=names, xlabel=xlabel, ylabel=ylabel, level=start)
    ax = figure.axes[0]
    for node, side, shift in zip(nodes, ("right", "left"), (-8, 8), strict=True):
        ax.plot(*node, "ko", markersize=5)
        place: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center"}
        ax.annotate(f"saddle-node\nb = {node[0]:.5f}", node, (shift, 0), **place)
    ax.plot(edge, start, "k*", markersize=9)
    text = f"$x_0$ = {start:g} changes its basin\nat b = {edge:.5f}: the cliff"
    ax.text(table["b"].min(), start - 0.1, text, va="top")
    return figure
