"""How gradients fall with the lag, and learning curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rnnjax.figures import drawing, styles

LSTM_PATHS = {
    "c": "to the cell state c",
    "h": "to the hidden state h",
    "carousel": "through forget gates alone",
    "rest": "through the recurrent kernel",
    "joint": "all of it",
}


def gradient_profiles(table: drawing.Table, titles: Mapping[str, str]) -> Figure:
    """Draw ||dL/ds_{T-k}|| / ||dL/ds_T|| against the lag k, median and quartiles, by phase.

    The thin dotted lines are exponential fits; the legend gives their half-lives. Values that are
    not finite, such as the logarithm of a gradient that is exactly zero, are left out.

    Args:
        table: columns `phase`, `cell`, `lag`, `median`, `q25`, `q75` (natural logs) and
            `half_life` (of the fit to the median, in steps).
        titles: titles of the panels from left to right, by value of `phase`.
    """
    figure, axes = drawing.panels(len(titles), sharey=True)
    style = styles.series(table["cell"].tolist())
    for ax, (phase, title) in zip(axes, titles.items(), strict=True):
        panel = drawing.rows(table, phase=phase)
        for cell in drawing.unique(panel["cell"]):
            rows = drawing.rows(panel, cell=cell)
            half_life = rows["half_life"][0]
            label = f"{style[cell].label}, half-life {_steps(half_life)}"
            drawing.line_with_band(
                ax, rows["lag"], rows, style[cell], label, scale=1 / drawing.LN10
            )
            if np.isfinite(half_life):
                fit = _fit(rows["lag"], rows["median"], half_life) / drawing.LN10
                ax.plot(rows["lag"], fit, color=style[cell].colour, linestyle=":", linewidth=0.8)
        ax.set(title=title, xlabel=styles.LAG)
        ax.legend(fontsize="small")
    axes[0].set_ylabel("gradient norm relative to lag 0")
    drawing.powers_of_ten(axes[0])
    return figure


def layer_profiles(
    profiles: Mapping[str, Any], lengths: Any = None, names: Mapping[str, str] | None = None
) -> Figure:
    """Draw the gradient norm against lag, one line with a band over examples for each layer.

    Args:
        profiles: natural logs `[T, B]` by layer, as `rnnjax.diagnostics.log_gradient_by_layer`
            returns them; T may differ between layers. Values that are not finite, such as the
            logarithm of a gradient that is exactly zero, are left out.
        lengths: valid steps of each sequence, `[B]`, for layers of that many steps. Entry t is at
            lag `lengths` - t; lags run from 1 to the length of the shortest sequence. None means T.
        names: labels by layer; the default is the layer's name.
    """
    figure, (ax,) = drawing.panels(1)
    style = styles.series(profiles, names)
    for layer, profile in profiles.items():
        rows = np.asarray(profile)
        ends = np.full(rows.shape[1], len(rows)) if lengths is None else np.asarray(lengths)
        lags = np.arange(1, ends.min() + 1)
        rows = np.take_along_axis(rows, ends - lags[:, None], axis=0)
        low, middle, high = np.quantile(rows, (0.25, 0.5, 0.75), axis=1, method="inverted_cdf")
        band = {"median": middle, "q25": low, "q75": high}
        drawing.line_with_band(ax, lags, band, style[layer], scale=1 / drawing.LN10)
    ax.set(xlabel=styles.LAG, ylabel="gradient norm")
    ax.legend(fontsize="small")
    drawing.powers_of_ten(ax)
    return figure


def profile_over_training(table: drawing.Table) -> Figure:
    """Draw the median gradient norm over training step and lag as one heat map for each cell.

    Args:
        table: columns `cell`, `step`, `lag` and `median` (natural log, relative to lag 0), in any
            order of rows. Missing values and values that are not finite are white.
    """
    cells = styles.series(table["cell"].tolist())
    figure, axes = drawing.panels(len(cells), sharey=True)
    finite = table["median"][np.isfinite(table["median"])] / drawing.LN10
    low, high = (finite.min(), finite.max()) if finite.size else (-1, 0)
    high = max(high, low + 1e-6)
    image: Any = None
    for ax, (cell, style) in zip(axes, cells.items(), strict=True):
        rows = drawing.rows(table, cell=cell)
        steps, column = np.unique(rows["step"], return_inverse=True)
        lags, row = np.unique(rows["lag"], return_inverse=True)
        grid = np.full((len(lags), len(steps)), np.nan)
        grid[row, column] = rows["median"] / drawing.LN10
        cells_at = drawing.edges(steps), drawing.edges(lags)
        image = ax.pcolormesh(*cells_at, grid, vmin=low, vmax=high, cmap=styles.SEQUENTIAL)
        image.set_rasterized(True)
        ax.grid(False)
        ax.set(title=style.label, xlabel="training step")
    axes[0].set_ylabel(styles.LAG)
    bar = figure.colorbar(image, ax=list(axes), label="gradient norm relative to lag 0")
    drawing.powers_of_ten(bar.ax)
    return figure


def learning_curves(table: drawing.Table, chance: float, metric: str = "training loss") -> Figure:
    """Draw the loss against the training step, median and quartiles over seeds, with chance.

    Args:
        table: columns `cell`, `step`, `median`, `q25`, `q75`.
        chance: the loss of the best memoryless answer.
        metric: the label of the y axis.
    """
    figure, (ax,) = drawing.panels(1)
    for cell, style in styles.series(table["cell"].tolist()).items():
        rows = drawing.rows(table, cell=cell)
        drawing.line_with_band(ax, rows["step"], rows, style)
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label=f"chance {chance:.3g}")
    ax.set(xlabel="training step", ylabel=metric, yscale="log")
    ax.legend(fontsize="small")
    return figure


def path_split(
    table: drawing.Table, titles: Mapping[str, str], paths: Mapping[str, str] = LSTM_PATHS
) -> Figure:
    """Draw the parts of one cell's gradient that reach each part of its carry, against lag.

    Args:
        table: columns `phase`, `path`, `lag`, `median`, `q25`, `q75` (natural logs).
        titles: titles of the panels from left to right, by value of `phase`.
        paths: values of `path` and their labels, by default an LSTM's; `joint` is drawn dotted.
    """
    figure, axes = drawing.panels(len(titles), sharey=True)
    for path, style in styles.series(paths, paths).items():
        line = {"scale": 1 / drawing.LN10, "linestyle": ":" if path == "joint" else "-"}
        for ax, phase in zip(axes, titles, strict=True):
            rows = drawing.rows(table, phase=phase, path=path)
            drawing.line_with_band(ax, rows["lag"], rows, style, **line)
    for ax, title in zip(axes, titles.values(), strict=True):
        ax.set(title=title, xlabel=styles.LAG)
    axes[0].set_ylabel("gradient norm relative to lag 0")
    axes[0].legend(fontsize="small")
    drawing.powers_of_ten(axes[0])
    return figure


def _fit(lag, median, half_life):
    """Return the line of slope -ln 2 / half_life through the middle of the finite points."""
    finite = np.isfinite(median)
    return median[finite].mean() - np.log(2) / half_life * (lag - lag[finite].mean())


def _steps(half_life):
    if np.isnan(half_life):
        return "undefined"
    return f"{half_life:.3g} steps" if half_life < np.inf else "none (no decay)"
