"""Curves and points of any table, and networks compared."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from rnnjax.figures import drawing, styles


def curves(
    table: drawing.Table,
    x: str,
    series: str,
    *,
    panel: str | None = None,
    columns: int | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
    natural_logs: bool = False,
    ylim: tuple[float, float] | None = None,
    level: float | int | None = None,
    places: Mapping[float, str] | None = None,
    reference: Any = None,
    legend_below: bool = False,
) -> Figure:
    """Draw one line with a band for each series, in one panel or several.

    Args:
        table: columns `x`, `series` and `median`, in order of x within a series; with `q25` and
            `q75` a band is drawn, with `theory` a dashed line with hollow markers. Entries that are
            not finite are left out.
        x, series: names of the columns with the x coordinate and the series of each point.
        panel: name of the column with the panel; panels are in order of first appearance.
        columns: panels per row; None means all of them.
        names: titles and labels by value of `panel` and `series`; the default is `styles.label`.
        xlabel, ylabel: labels of the axes.
        log_x, log_y: logarithmic axes, for tables of plain numbers; values that are not positive
            are left out. Without any positive value the axis is linear.
        natural_logs: the numbers are natural logarithms; the axis is labelled in powers of ten.
        ylim: the range of y that is shown, in the units of the table; None means all.
        level: a y, in the units of the table, that a thin dotted line marks.
        places: values of x that thin dotted lines mark, with their labels.
        reference: a value of `series` that is a theory: a dashed black line behind the others.
        legend_below: put the legend below the panels, not into the first: for many series.
    """
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), columns, sharey=True)
    thin: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 0.8}
    style = styles.series(table[series].tolist(), names)
    scale = 1 / drawing.LN10 if natural_logs else 1.0
    for ax, part in zip(axes, parts, strict=True):
        for value in drawing.unique(part[series]):
            rows = drawing.rows(part, **{series: value})
            if reference is not None and value == reference:
                line: dict[str, Any] = {"color": "black", "linewidth": 1.2, "zorder": 1.5}
                ax.plot(rows[x], rows["median"] * scale, "--", label=style[value].label, **line)
                continue
            band = rows if "q25" in rows else rows | dict.fromkeys(("q25", "q75"), rows["median"])
            drawing.line_with_band(ax, rows[x], band, style[value], scale=scale)
            if "theory" in rows:
                theory = np.where(np.isfinite(rows["theory"]), rows["theory"] * scale, np.nan)
                hollow = drawing.markers(theory, style[value]) | {"markerfacecolor": "white"}
                ax.plot(rows[x], theory, "--", color=style[value].colour, linewidth=1.2, **hollow)
        ax.set(xlabel=xlabel)
        if ax.get_subplotspec().is_first_col():
            ax.set(ylabel=ylabel)
        if panel is not None:
            ax.set(title=styles.label(part[panel][0], names))
        if log_x and np.any((part[x] > 0) & np.isfinite(part["median"])):
            ax.set(xscale="log")
        if level is not None:
            ax.axhline(level * scale, **thin)
        for place, label in (places or {}).items():
            ax.axvline(place, label=label, **thin)
    if ylim is not None:
        axes[0].set(ylim=(ylim[0] * scale, ylim[1] * scale))  # and with it those that share it
    if log_y and np.any(table["median"] > 0):
        axes[0].set(yscale="log")  # and with it those that share it
    lines = {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if legend_below:
        rows = -(-len(lines) // (1 + 2 * len(axes)))
        options = {"loc": "outside lower center", "ncols": -(-len(lines) // rows)}
        figure.legend(lines.values(), lines.keys(), fontsize="small", frameon=False, **options)
    else:
        axes[0].legend(lines.values(), lines.keys(), fontsize="small")
    if natural_logs:
        drawing.powers_of_ten(axes[0])
    return figure


def points(
    table: drawing.Table,
    x: str,
    y: str,
    series: str,
    *,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
    slopes: Mapping[str, float] | None = None,
) -> Figure:
    """Draw one point for each row, with the colour and marker of its series.

    Args:
        table: columns `x`, `y` and `series`; rows that are not finite are left out.
        x, y, series: names of the columns with the coordinates and the series of each point.
        names: labels by value of `series`; the default is `styles.label`.
        xlabel, ylabel: labels of the axes.
        log_x, log_y: logarithmic axes; all finite values are positive.
        slopes: the slopes c of lines y = c x, by label: those of theories.
    """
    figure, (ax,) = drawing.panels(1)
    style = styles.series(table[series].tolist(), names)
    finite = np.isfinite(table[x]) & np.isfinite(table[y])
    for value, look in style.items():
        rows = {name: table[name][finite & (table[series] == value)] for name in (x, y)}
        drawn = {"linestyle": "", "markerfacecolor": "none", "markersize": 7}
        ax.plot(rows[x], rows[y], color=look.colour, marker=look.marker, label=look.label, **drawn)
    if finite.any():
        across = table[x][finite]
        ends = np.array([across.min(), across.max()])
        for (label, slope), dashes in zip((slopes or {}).items(), itertools.cycle(("--", "-."))):
            line = {"linestyle": dashes, "linewidth": 1.2, "zorder": 1.5}
            ax.plot(ends, slope * ends, color="black", label=label, **line)
        for axis, log in ((ax.xaxis, log_x), (ax.yaxis, log_y)):
            if log:
                ax.set(**{f"{axis.axis_name}scale": "log"})
                axis.set_major_formatter(LogFormatter())  # 2 and 10, not powers
                axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize="small")
    return figure


def comparison(
    results: drawing.Table,
    gradients: drawing.Table,
    *,
    metric: str,
    baseline: str,
    names: Mapping[Any, str] | None = None,
) -> Figure:
    """Draw each network's result, with its range over seeds, beside its gradient against the lag.

    Args:
        results: columns `network`, `value`, `low`, `high` and `baseline`, one row per network.
        gradients: columns `network`, `lag` and `median` (natural logs). Values that are not finite,
            such as the logarithm of a gradient that is exactly zero, are left out.
        metric: the name of `value`.
        baseline: the name of the dashed line.
        names: labels of the networks; the default is `styles.label`.
    """
    figure, (left, right) = drawing.panels(2)
    style = styles.series(results["network"].tolist(), names)
    for place, row in enumerate(zip(*results.values(), strict=True)):
        entry = dict(zip(results, row, strict=True))
        value, (_, colour, marker, *_) = float(entry["value"]), style[entry["network"]]
        left.plot([entry["low"], entry["high"]], [place, place], color=colour, linewidth=3)
        left.plot([value], [place], marker, color=colour)
    line = float(results["baseline"][0])
    left.axvline(line, color="black", linestyle="--", linewidth=1, label=baseline)
    ticks = [style[name].label for name in results["network"].tolist()]
    left.set_yticks(range(len(ticks)), ticks)
    for tick, look in zip(left.get_yticklabels(), style.values(), strict=True):
        tick.set_color(look.colour)  # in place of a legend
    left.invert_yaxis()
    left.set(xlabel=metric)
    left.legend(fontsize="small")
    for name, look in style.items():
        rows = drawing.rows(gradients, network=name)
        finite = np.where(np.isfinite(rows["median"]), rows["median"] / drawing.LN10, np.nan)
        line = {"color": look.colour, "label": look.label}
        right.plot(rows["lag"], finite, **line, **drawing.markers(finite, look))
    right.set(xlabel=styles.LAG, ylabel="share of the gradient, median")
    drawing.powers_of_ten(right)
    return figure
