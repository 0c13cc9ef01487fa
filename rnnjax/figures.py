"""Arrays to matplotlib figures. No files, no training.

The tables are columns of equal length, as `rnnjax.runs.Run.write_table` stores them. Logarithms in
tables are natural; axes are labelled in powers of ten.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

Table = Mapping[str, np.ndarray]

COLOURS = {"elman": "#c44e52", "lstm": "#4c72b0", "gru": "#55a868"}
MORE_COLOURS = "#dd8452", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd"
NAMES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}
LN10 = np.log(10)


def gradient_profiles(table: Table, titles: Mapping[str, str]) -> Figure:
    """Draw ||dL/ds_{T-k}|| / ||dL/ds_T|| against the lag k: median and quartiles, a panel a phase.

    The thin dotted lines are the exponential fits whose half-lives the legend gives. What is not
    finite, such as the logarithm of a gradient that is exactly zero, is left out.

    Args:
        table: columns `phase`, `cell`, `lag`, `median`, `q25`, `q75` (natural logs) and
            `half_life` (of the fit to the median, in steps).
        titles: of the panels from left to right, by value of `phase`.
    """
    figure, axes = _panels(len(titles), sharey=True)
    colours = _colours(table["cell"])
    for ax, (phase, title) in zip(axes, titles.items(), strict=True):
        panel = _rows(table, phase=phase)
        for cell in _unique(panel["cell"]):
            rows = _rows(panel, cell=cell)
            half_life = rows["half_life"][0]
            label = f"{_name(cell)}, half-life {_steps(half_life)}"
            _line_with_band(ax, rows["lag"], rows, colours[cell], label, scale=1 / LN10)
            if np.isfinite(half_life):
                fit = _fit(rows["lag"], rows["median"], half_life) / LN10
                ax.plot(rows["lag"], fit, color=colours[cell], linestyle=":", linewidth=0.8)
        ax.set(title=title, xlabel="lag k (steps back from the end)")
        ax.legend(fontsize="small")
    axes[0].set_ylabel("gradient norm relative to lag 0")
    _powers_of_ten(axes[0])
    return figure


def profile_over_training(table: Table) -> Figure:
    """Draw the median gradient norm over training step and lag as one heat map for each cell.

    Args:
        table: columns `cell`, `step`, `lag` and `median` (natural log, relative to lag 0), in any
            order of rows. What is missing or not finite is left white.
    """
    cells = _unique(table["cell"])
    figure, axes = _panels(len(cells), sharey=True)
    finite = table["median"][np.isfinite(table["median"])] / LN10
    low, high = (finite.min(), finite.max()) if finite.size else (-1, 0)
    high = max(high, low + 1e-6)
    image: Any = None
    for ax, cell in zip(axes, cells, strict=True):
        rows = _rows(table, cell=cell)
        steps, column = np.unique(rows["step"], return_inverse=True)
        lags, row = np.unique(rows["lag"], return_inverse=True)
        grid = np.full((len(lags), len(steps)), np.nan)
        grid[row, column] = rows["median"] / LN10
        image = ax.pcolormesh(_edges(steps), _edges(lags), grid, vmin=low, vmax=high)
        image.set_rasterized(True)
        ax.grid(False)
        ax.set(title=_name(cell), xlabel="training step")
    axes[0].set_ylabel("lag k (steps back from the end)")
    bar = figure.colorbar(image, ax=list(axes), label="gradient norm relative to lag 0")
    _powers_of_ten(bar.ax)
    return figure


def learning_curves(table: Table, chance: float, metric: str = "training loss") -> Figure:
    """Draw the loss against the training step, median and quartiles over seeds, with chance.

    Args:
        table: columns `cell`, `step`, `median`, `q25`, `q75`.
        chance: the loss of the best memoryless answer.
        metric: the label of the loss.
    """
    figure, (ax,) = _panels(1)
    for cell, colour in _colours(table["cell"]).items():
        rows = _rows(table, cell=cell)
        _line_with_band(ax, rows["step"], rows, colour, _name(cell))
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label=f"chance {chance:.3g}")
    ax.set(xlabel="training step", ylabel=metric, yscale="log")
    ax.legend(fontsize="small")
    return figure


def path_split(table: Table, titles: Mapping[str, str], paths: Mapping[str, str]) -> Figure:
    """Draw the parts of one cell's gradient that arrive at each part of its carry, against lag.

    Args:
        table: columns `phase`, `path`, `lag`, `median`, `q25`, `q75` (natural logs).
        titles: of the panels from left to right, by value of `phase`.
        paths: values of `path` and their labels; `joint` is drawn dotted.
    """
    figure, axes = _panels(len(titles), sharey=True)
    colours = "#4c72b0", *MORE_COLOURS
    for i, (path, label) in enumerate(paths.items()):
        colour, style = ("#555555", ":") if path == "joint" else (colours[i % len(colours)], "-")
        for ax, phase in zip(axes, titles, strict=True):
            rows = _rows(table, phase=phase, path=path)
            _line_with_band(ax, rows["lag"], rows, colour, label, scale=1 / LN10, linestyle=style)
    for ax, title in zip(axes, titles.values(), strict=True):
        ax.set(title=title, xlabel="lag k (steps back from the end)")
    axes[0].set_ylabel("gradient norm relative to lag 0")
    axes[0].legend(fontsize="small")
    _powers_of_ten(axes[0])
    return figure


def curves(
    table: Table,
    x: str,
    series: str,
    *,
    panel: str | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
    natural_logs: bool = False,
) -> Figure:
    """Draw one line with a band for each series, in one panel or several.

    Args:
        table: columns `x`, `series` and `median`, in order of x within a series; with `q25` and
            `q75` a band is drawn, with `theory` a dashed line in the same colour. Entries that are
            not finite are left out.
        x, series: names of the columns that say where a point stands and which line it is on.
        panel: name of the column that says which panel, in order of first appearance.
        names: titles and labels of values of `panel` and `series`; the value itself otherwise.
        xlabel, ylabel: of the axes.
        log_x, log_y: logarithmic axes, for tables of plain numbers.
        natural_logs: the numbers are natural logarithms; the axis is labelled in powers of ten.
    """
    parts = [table] if panel is None else [_rows(table, **{panel: v}) for v in _unique(table[panel])]
    figure, axes = _panels(len(parts), sharey=True)
    colours = _colours(table[series])
    scale = 1 / LN10 if natural_logs else 1.0
    for ax, part in zip(axes, parts, strict=True):
        for value in _unique(part[series]):
            rows = _rows(part, **{series: value})
            band = rows if "q25" in rows else rows | dict.fromkeys(("q25", "q75"), rows["median"])
            label = _label(value, names)
            _line_with_band(ax, rows[x], band, colours[value], label, scale=scale)
            if "theory" in rows:
                theory = np.where(np.isfinite(rows["theory"]), rows["theory"] * scale, np.nan)
                ax.plot(rows[x], theory, color=colours[value], linestyle="--", linewidth=1.2)
        ax.set(xlabel=xlabel)
        if panel is not None:
            ax.set(title=_label(part[panel][0], names))
        if log_x:
            ax.set(xscale="log")
        if log_y:
            ax.set(yscale="log")
    axes[0].set(ylabel=ylabel)
    axes[0].legend(fontsize="small")
    if natural_logs:
        _powers_of_ten(axes[0])
    return figure


def heat_maps(
    table: Table,
    x: str,
    y: str,
    value: str,
    *,
    panel: str | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
    label: str,
    log: bool = False,
    symmetric: bool = False,
) -> Figure:
    """Draw a quantity over a grid as one heat map for each panel, all on one scale.

    Args:
        table: columns `x`, `y` and `value`, in any order of rows; what is missing or not finite is
            left white. Rows and columns of the map have equal widths, whatever their distances.
        panel: name of the column that says which panel, in order of first appearance.
        names: titles of values of `panel`; the value itself otherwise.
        xlabel, ylabel, label: of the axes and of the colours.
        log: a logarithmic scale of colours.
        symmetric: a scale of two colours around zero, as wide to either side.
    """
    from matplotlib.colors import LogNorm, Normalize

    parts = [table] if panel is None else [_rows(table, **{panel: v}) for v in _unique(table[panel])]
    figure, axes = _panels(len(parts), sharey=True)
    known = table[value][np.isfinite(table[value])]
    known = known[known > 0] if log else known
    low, high = (known.min(), known.max()) if known.size else (1, 10)
    if symmetric:
        high = max(abs(low), abs(high)) or 1
        low = -high
    high = high if high > low else low + (abs(low) or 1) * 1e-6
    scale: Any = LogNorm(low, high) if log else Normalize(low, high)
    image: Any = None
    for ax, part in zip(axes, parts, strict=True):
        xs, column = np.unique(part[x], return_inverse=True)
        ys, row = np.unique(part[y], return_inverse=True)
        grid = np.full((len(ys), len(xs)), np.nan)
        grid[row, column] = np.where(np.isfinite(part[value]), part[value], np.nan)
        colours = "RdBu_r" if symmetric else "viridis"
        image = ax.pcolormesh(grid, norm=scale, cmap=colours)
        image.set_rasterized(True)
        ax.grid(False)
        _ticks(ax.xaxis, xs)
        _ticks(ax.yaxis, ys)
        ax.set(xlabel=xlabel)
        if panel is not None:
            ax.set(title=_label(part[panel][0], names))
    axes[0].set(ylabel=ylabel)
    figure.colorbar(image, ax=list(axes), label=label)
    return figure


def _ticks(axis, values, most=9):
    """Label the centres of some of the equal cells of a heat map with their values."""
    every = -(-len(values) // most)
    places = np.arange(0, len(values), every)
    axis.set_ticks(places + 0.5, [f"{values[i]:.3g}" for i in places])


def _label(value, names):
    return (names or {}).get(value) or (_name(value) if isinstance(value, str) else f"{value:g}")


def _panels(count, **options):
    """Return a figure without a window, and its axes in a row."""
    figure = Figure(figsize=(1 + 4 * count if count > 1 else 6.4, 3.8), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, **options)[0]
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure, axes


def _line_with_band(ax: Axes, x, rows, colour, label, *, scale=1.0, linestyle="-"):
    """Draw a median and its quartiles; entries that are not finite are left out."""
    middle, low, high = (
        np.where(np.isfinite(rows[name]), rows[name] * scale, np.nan)
        for name in ("median", "q25", "q75")
    )
    alone = "." if np.isfinite(middle).sum() == 1 else ""  # a line needs two points
    ax.plot(x, middle, color=colour, label=label, linestyle=linestyle, marker=alone)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _fit(lag, median, half_life):
    """Return the line of slope -ln 2 / half_life through the middle of the finite points."""
    finite = np.isfinite(median)
    return median[finite].mean() - np.log(2) / half_life * (lag - lag[finite].mean())


def _edges(centres):
    """Return the edges of the cells around increasing centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.array([2 * centres[0] - middles[0], *middles, 2 * centres[-1] - middles[-1]])


def _powers_of_ten(ax):
    ax.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"$10^{{{y:.3g}}}$"))


def _rows(table, **where):
    """Return the rows of a table in which every named column has the given value."""
    chosen = np.all([table[name] == value for name, value in where.items()], axis=0)
    return {name: np.asarray(column)[chosen] for name, column in table.items()}


def _unique(column):
    return list(dict.fromkeys(np.asarray(column).tolist()))


def _colours(cells):
    """Return a colour for each of the cells, the same in every figure for those of the library."""
    more = itertools.cycle(MORE_COLOURS)
    return {cell: COLOURS.get(cell) or next(more) for cell in _unique(cells)}


def _name(cell):
    return NAMES.get(cell, cell)


def _steps(half_life):
    if np.isnan(half_life):
        return "undefined"
    return f"{half_life:.3g} steps" if half_life < np.inf else "none (no decay)"
