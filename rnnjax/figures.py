"""Arrays to matplotlib figures. No files, no training.

The tables are columns of equal length, as `rnnjax.runs.Run.write_table` stores them. Logarithms in
tables are natural; axes are labelled in powers of ten.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

Table = Mapping[str, np.ndarray]

COLOURS = {"elman": "#c44e52", "lstm": "#4c72b0", "gru": "#55a868"}
NAMES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}
LN10 = np.log(10)


def gradient_profiles(table: Table, titles: Mapping[str, str]) -> Figure:
    """Draw ||dL/ds_{T-k}|| / ||dL/ds_T|| against the lag k: median and quartiles, a panel a phase.

    The thin dotted lines are the exponential fits whose half-lives the legend gives.

    Args:
        table: columns `phase`, `cell`, `lag`, `median`, `q25`, `q75` (natural logs) and
            `half_life` (of the fit to the median, in steps).
        titles: of the panels from left to right, by value of `phase`.
    """
    figure, axes = _panels(len(titles), sharey=True)
    for ax, (phase, title) in zip(axes, titles.items(), strict=True):
        for cell in _unique(table["cell"]):
            rows = _rows(table, phase=phase, cell=cell)
            label = f"{_name(cell)}, half-life {_steps(rows['half_life'][0])}"
            _line_with_band(ax, rows["lag"], rows, _colour(cell), label, scale=1 / LN10)
            fit = _fit(rows["lag"], rows["median"], rows["half_life"][0]) / LN10
            ax.plot(rows["lag"], fit, color=_colour(cell), linestyle=":", linewidth=0.8)
        ax.set(title=title, xlabel="lag k (steps back from the end)")
        ax.legend(fontsize="small")
    axes[0].set_ylabel("gradient norm relative to lag 0")
    _powers_of_ten(axes[0])
    return figure


def profile_over_training(table: Table) -> Figure:
    """Draw the median gradient norm over training step and lag as one heat map for each cell.

    Args:
        table: columns `cell`, `step`, `lag` and `median` (natural log, relative to lag 0).
    """
    cells = _unique(table["cell"])
    figure, axes = _panels(len(cells), sharey=True)
    finite = table["median"][np.isfinite(table["median"])] / LN10
    low, high = (finite.min(), finite.max()) if finite.size else (-1, 0)
    high = max(high, low + 1e-6)
    image: Any = None
    for ax, cell in zip(axes, cells, strict=True):
        rows = _rows(table, cell=cell)
        steps, lags = _unique(rows["step"]), _unique(rows["lag"])
        grid = rows["median"].reshape(len(steps), len(lags)).T / LN10
        image = ax.pcolormesh(steps, lags, grid, shading="nearest", vmin=low, vmax=high)
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
    for cell in _unique(table["cell"]):
        rows = _rows(table, cell=cell)
        _line_with_band(ax, rows["step"], rows, _colour(cell), _name(cell))
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label=f"chance {chance:.3g}")
    ax.set(xlabel="training step", ylabel=metric, yscale="log")
    ax.legend(fontsize="small")
    return figure


def path_split(table: Table, titles: Mapping[str, str], paths: Mapping[str, str]) -> Figure:
    """Draw the parts of one cell's gradient that arrive at each part of its carry, against lag.

    Args:
        table: columns `phase`, `path`, `lag`, `median`, `q25`, `q75` (natural logs).
        titles: of the panels from left to right, by value of `phase`.
        paths: values of `path` and their labels.
    """
    figure, axes = _panels(len(titles), sharey=True)
    styles = zip(paths.items(), ("#4c72b0", "#dd8452", "#555555"), ("-", "-", ":"), strict=False)
    for (path, label), colour, style in styles:
        for ax, phase in zip(axes, titles, strict=True):
            rows = _rows(table, phase=phase, path=path)
            _line_with_band(ax, rows["lag"], rows, colour, label, scale=1 / LN10, linestyle=style)
    for ax, title in zip(axes, titles.values(), strict=True):
        ax.set(title=title, xlabel="lag k (steps back from the end)")
    axes[0].set_ylabel("gradient norm relative to lag 0")
    axes[0].legend(fontsize="small")
    _powers_of_ten(axes[0])
    return figure


def _panels(count, **options):
    """Return a figure without a window, and its axes in a row."""
    figure = Figure(figsize=(1 + 4 * count if count > 1 else 6.4, 3.8), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, **options)[0]
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure, axes


def _line_with_band(ax: Axes, x, rows, colour, label, *, scale=1.0, linestyle="-"):
    """Draw a median and its quartiles; entries that are not finite are left out."""
    with np.errstate(invalid="ignore"):
        middle, low, high = (
            np.where(np.isfinite(rows[name]), rows[name] * scale, np.nan)
            for name in ("median", "q25", "q75")
        )
    ax.plot(x, middle, color=colour, label=label, linestyle=linestyle)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _fit(lag, median, half_life):
    """Return the line of slope -ln 2 / half_life through the middle of the finite points."""
    finite = np.isfinite(median)
    rate = np.log(2) / half_life if finite.any() else np.nan
    return median[finite].mean() - rate * (lag - lag[finite].mean()) if finite.any() else rate * lag


def _powers_of_ten(ax):
    ax.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"$10^{{{y:.3g}}}$"))


def _rows(table, **where):
    """Return the rows of a table in which every named column has the given value."""
    chosen = np.all([table[name] == value for name, value in where.items()], axis=0)
    return {name: np.asarray(column)[chosen] for name, column in table.items()}


def _unique(column):
    return list(dict.fromkeys(np.asarray(column).tolist()))


def _colour(cell):
    return COLOURS.get(cell)


def _name(cell):
    return NAMES.get(cell, cell)


def _steps(half_life):
    return f"{half_life:.3g} steps" if np.isfinite(half_life) else "none (no decay)"
