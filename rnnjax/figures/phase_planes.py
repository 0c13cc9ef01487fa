"""Fixed points and trajectories in a plane, and flow fields of two-dimensional systems."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from rnnjax.figures import drawing, styles

KINDS = {  # by the number of unstable directions; the last stands for more
    0: ("stable", styles.BLUE, "o"),
    1: ("1 unstable direction", styles.VERMILION, "X"),
    2: ("2 unstable directions", styles.ORANGE, "^"),
    3: ("3 or more unstable directions", styles.PURPLE, "D"),
}
PATH = "0.6"  # grey, behind the points
PATHS = (styles.VERMILION, "-"), ("black", "--"), (styles.PURPLE, "-."), (styles.SKY, ":")


def phase_plane(
    points: drawing.Table,
    trajectories: drawing.Table | None = None,
    directions: drawing.Table | None = None,
    *,
    panel: str | None = None,
    names: Mapping[Any, str] | None = None,
    colour: str | None = None,
    colour_label: str = "",
    xlabel: str = "first principal component",
    ylabel: str = "second principal component",
) -> Figure:
    """Draw fixed points by their stability, in a plane of states, over the paths of the network.

    Args:
        points: columns `x`, `y`, `num_unstable`, and `panel`. Points of each number of unstable
            directions have a colour and a marker of their own.
        trajectories: columns `x`, `y` in the order of time, `trajectory`, a number for each, and
            `panel`; drawn as thin grey lines, or as `colour` says.
        directions: columns `x`, `y`, a fixed point, `dx`, `dy`, half the line that is drawn through
            it along an unstable direction, and `panel`.
        panel: name of the column with the panel; panels are in order of first appearance in
            `points`. None means one.
        names: titles by value of `panel`; the default is `styles.label`.
        colour: name of a column of `trajectories` with a number for each path, such as a signed
            coherence, that its colour tells; paths of negative numbers are dashed. None means grey.
        colour_label: label of the colour bar.
        xlabel, ylabel: labels of the axes.
    """
    parts = drawing.split(points, panel)
    figure, axes = drawing.panels(len(parts))
    shown, scale = {}, None
    if colour is not None and trajectories is not None:
        most = np.abs(trajectories[colour]).max(initial=0)
        scale = ScalarMappable(Normalize(-most, most), styles.DIVERGING)
    for ax, part in zip(axes, parts, strict=True):
        title = None if panel is None else np.asarray(part[panel])[0].item()
        here = {} if panel is None else {panel: title}
        if trajectories is not None:
            for path in drawing.split(drawing.rows(trajectories, **here), "trajectory"):
                ax.plot(path["x"], path["y"], zorder=1, **_path_style(path, colour, scale))
        if directions is not None:
            lines = drawing.rows(directions, **here)
            x, y, dx, dy = (lines[name] for name in ("x", "y", "dx", "dy"))
            unstable = KINDS[1][1]
            ax.plot([x - dx, x + dx], [y - dy, y + dy], color=unstable, linewidth=1.2, zorder=2)
        kinds = np.minimum(part["num_unstable"], max(KINDS))
        for kind, (text, fill, marker) in KINDS.items():
            x, y = (part[name][kinds == kind] for name in ("x", "y"))
            if len(x):
                options: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.5, "zorder": 3}
                dots = ax.scatter(x, y, s=40, color=fill, marker=marker, **options)
                shown.setdefault(kind, (dots, text))
        ax.set_xlabel(xlabel)
        if panel is not None:
            ax.set_title(styles.label(title, names))
    axes[0].set_ylabel(ylabel)
    if shown:
        dots, texts = zip(*(shown[kind] for kind in sorted(shown)), strict=True)
        figure.legend(dots, texts, loc="outside lower center", ncols=len(texts))
    if scale is not None:
        figure.colorbar(scale, ax=list(axes), label=colour_label)
    return figure


def _path_style(path, colour, scale):
    """Return options of `Axes.plot` for a path: grey, or coloured by its number."""
    if scale is None:
        return {"color": PATH, "linewidth": 0.6}
    value = path[colour][0]
    return {
        "color": scale.to_rgba(value),
        "linewidth": 1.0,
        "linestyle": "--" if value < 0 else "-",
        "path_effects": [Stroke(linewidth=1.6, foreground="0.35"), Normal()],
    }


def flow_field(
    table: drawing.Table,
    points: drawing.Table | None = None,
    trajectories: drawing.Table | None = None,
    *,
    series: str | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw where a two-dimensional system goes from each place: arrows, coloured by their speed.

    Args:
        table: columns `x`, `y`, on a grid, and `dx`, `dy`, the change of the state in one step.
            Arrows have one length; their colour tells the speed sqrt(dx^2 + dy^2).
        points, trajectories: as for `phase_plane`, without panels.
        series: name of a column of `trajectories`. Each of its values has a line of its own colour
            and dashes in the legend; dots are the steps, and a large one the beginning.
        names: labels by value of `series`; the default is `styles.label`.
        xlabel, ylabel: labels of the axes.
    """
    x, y, dx, dy = (np.asarray(table[name], float) for name in ("x", "y", "dx", "dy"))
    if points is None:
        points = {"x": x[:0], "y": y[:0], "num_unstable": np.zeros(0, int)}
    grey = trajectories if series is None else None
    figure = phase_plane(points, grey, xlabel=xlabel, ylabel=ylabel)
    (ax,) = figure.axes
    if trajectories is not None and series is not None:
        look = styles.series(trajectories[series].tolist(), names)
        for place, (value, style) in enumerate(look.items()):
            path = drawing.rows(trajectories, **{series: value})
            colour, dash = PATHS[place % len(PATHS)]
            line: dict[str, Any] = {"color": colour, "marker": ".", "zorder": 2}
            ax.plot(path["x"], path["y"], dash, label=style.label, linewidth=1.8, **line)
            ax.plot(path["x"][:1], path["y"][:1], "o", color=colour, markersize=8, zorder=2)
        figure.legend(loc="outside upper center", ncols=len(look))
    speed = np.hypot(dx, dy)
    moving = speed > 0
    x, y, dx, dy, speed = (a[moving] for a in (x, y, dx, dy, speed))
    scale = None
    if speed.size and speed.min() < speed.max():
        scale = LogNorm(speed.min(), speed.max())
    arrows = ax.quiver(
        *(x, y, dx / speed, dy / speed, speed),
        norm=scale,
        cmap=styles.SEQUENTIAL,
        angles="xy",
        pivot="mid",
        zorder=0,
    )
    figure.colorbar(arrows, ax=ax, label="speed, change of the state per step")
    return figure


def trajectories(
    table: drawing.Table,
    value: str,
    label: str,
    *,
    start: str,
    end: str,
    panel: str | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str = "first principal component",
    ylabel: str = "second principal component",
) -> Figure:
    """Draw trajectories in a plane of states, coloured by a number, with their two ends marked.

    Args:
        table: columns `x`, `y` in the order of time, `trajectory`, a number for each, `value` and
            `panel`.
        value: name of the column with the number, one for each trajectory.
        label: of the colour bar.
        start, end: what the marks at the first and the last state are called in the legend.
        panel, names, xlabel, ylabel: as for `phase_plane`.
    """
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts))
    numbers = np.asarray(table[value], float)
    low, high = numbers.min(), numbers.max()
    colours = ScalarMappable(Normalize(low, high if low < high else low + 1), styles.SEQUENTIAL)
    for ax, part in zip(axes, parts, strict=True):
        for path in drawing.split(part, "trajectory"):
            x, y, colour = path["x"], path["y"], colours.to_rgba(path[value][0])
            ax.plot(x, y, color=colour, linewidth=1.2, zorder=1)
            ends: dict[str, Any] = {"color": colour, "edgecolors": "black", "linewidths": 0.5}
            ax.scatter(x[:1], y[:1], marker="o", zorder=2, **ends)
            ax.scatter(x[-1:], y[-1:], marker="s", zorder=2, **ends)
        ax.set_xlabel(xlabel)
        if panel is not None:
            ax.set_title(styles.label(np.asarray(part[panel])[0].item(), names))
    axes[0].set_ylabel(ylabel)
    for marker, text in (("o", start), ("s", end)):
        axes[0].scatter([], [], color="white", edgecolors="black", marker=marker, label=text)
    figure.legend(loc="outside lower center", ncols=2)
    figure.colorbar(colours, ax=list(axes), label=label)
    return figure
