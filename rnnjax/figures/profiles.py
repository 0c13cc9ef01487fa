"""How gradients fall with the lag, and learning curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rnnjax.figures import drawing


def gradient_profiles(table: drawing.Table, titles: Mapping[str, str]) -> Figure:
    """Draw ||dL/ds_{T-k}|| / ||dL/ds_T|| against the lag k: median and quartiles, a panel a phase.

    The thin dotted lines are the exponential fits whose half-lives the legend gives. What is not
    finite, such as the logarithm of a gradient that is exactly zero, is left out.

    Args:
        table: columns `phase`, `cell`, `lag`, `median`, `q25`, `q75` (natural logs) and
            `half_life` (of the fit to the median, in steps).
        titles: of the panels from left to right, by value of `phase`.
    """
    figure, axes = drawing.panels(len(titles), sharey=True)
    colours = drawing.colours(table["cell"])
    for ax, (phase, title) in zip(axes, titles.items(), strict=True):
        panel = drawing.rows(table, phase=phase)
        for cell in drawing.unique(panel["cell"]):
            rows = drawing.rows(panel, cell=cell)
            half_life = rows["half_life"][0]
            label = f"{drawing.name(cell)}, half-life {_steps(half_life)}"
            drawing.line_with_band(
                ax, rows["lag"], rows, colours[cell], label, scale=1 / drawing.LN10
            )
            if np.isfinite(half_life):
                fit = _fit(rows["lag"], rows["median"], half_life) / drawing.LN10
                ax.plot(rows["lag"], fit, color=colours[cell], linestyle=":", linewidth=0.8)
        ax.set(title=title, xlabel="lag k (steps back from the end)")
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
            returns them; T may differ from layer to layer. What is not finite, such as the
            logarithm of a gradient that is exactly zero, is left out.
        lengths: valid steps of each sequence, `[B]`, for layers of that many steps. Entry t is at
            lag `lengths` - t; lags run from 1 to the length of the shortest sequence. None means T.
        names: labels by layer; its own name otherwise.
    """
    figure, (ax,) = drawing.panels(1)
    colours = "#4c72b0", "#c44e52", "#55a868", *drawing.MORE_COLOURS
    for i, (layer, profile) in enumerate(profiles.items()):
        rows = np.asarray(profile)
        ends = np.full(rows.shape[1], len(rows)) if lengths is None else np.asarray(lengths)
        lags = np.arange(1, ends.min() + 1)
        rows = np.take_along_axis(rows, ends - lags[:, None], axis=0)
        low, middle, high = np.quantile(rows, (0.25, 0.5, 0.75), axis=1, method="inverted_cdf")
        band = {"median": middle, "q25": low, "q75": high}
        label = (names or {}).get(layer, layer)
        drawing.line_with_band(
            ax, lags, band, colours[i % len(colours)], label, scale=1 / drawing.LN10
        )
    ax.set(xlabel="lag k (steps back from the end)", ylabel="gradient norm")
    ax.legend(fontsize="small")
    drawing.powers_of_ten(ax)
    return figure


def profile_over_training(table: drawing.Table) -> Figure:
    """Draw the median gradient norm over training step and lag as one heat map for each cell.

    Args:
        table: columns `cell`, `step`, `lag` and `median` (natural log, relative to lag 0), in any
            order of rows. What is missing or not finite is left white.
    """
    cells = drawing.unique(table["cell"])
    figure, axes = drawing.panels(len(cells), sharey=True)
    finite = table["median"][np.isfinite(table["median"])] / drawing.LN10
    low, high = (finite.min(), finite.max()) if finite.size else (-1, 0)
    high = max(high, low + 1e-6)
    image: Any = None
    for ax, cell in zip(axes, cells, strict=True):
        rows = drawing.rows(table, cell=cell)
        steps, column = np.unique(rows["step"], return_inverse=True)
        lags, row = np.unique(rows["lag"], return_inverse=True)
        grid = np.full((len(lags), len(steps)), np.nan)
        grid[row, column] = rows["median"] / drawing.LN10
        image = ax.pcolormesh(drawing.edges(steps), drawing.edges(lags), grid, vmin=low, vmax=high)
        image.set_rasterized(True)
        ax.grid(False)
        ax.set(title=drawing.name(cell), xlabel="training step")
    axes[0].set_ylabel("lag k (steps back from the end)")
    bar = figure.colorbar(image, ax=list(axes), label="gradient norm relative to lag 0")
    drawing.powers_of_ten(bar.ax)
    return figure


def learning_curves(table: drawing.Table, chance: float, metric: str = "training loss") -> Figure:
    """Draw the loss against the training step, median and quartiles over seeds, with chance.

    Args:
        table: columns `cell`, `step`, `median`, `q25`, `q75`.
        chance: the loss of the best memoryless answer.
        metric: the label of the loss.
    """
    figure, (ax,) = drawing.panels(1)
    for cell, colour in drawing.colours(table["cell"]).items():
        rows = drawing.rows(table, cell=cell)
        drawing.line_with_band(ax, rows["step"], rows, colour, drawing.name(cell))
    ax.axhline(chance, color="black", linestyle="--", linewidth=1, label=f"chance {chance:.3g}")
    ax.set(xlabel="training step", ylabel=metric, yscale="log")
    ax.legend(fontsize="small")
    return figure


def path_split(table: drawing.Table, titles: Mapping[str, str], paths: Mapping[str, str]) -> Figure:
    """Draw the parts of one cell's gradient that arrive at each part of its carry, against lag.

    Args:
        table: columns `phase`, `path`, `lag`, `median`, `q25`, `q75` (natural logs).
        titles: of the panels from left to right, by value of `phase`.
        paths: values of `path` and their labels; `joint` is drawn dotted.
    """
    figure, axes = drawing.panels(len(titles), sharey=True)
    colours = "#4c72b0", *drawing.MORE_COLOURS
    for i, (path, label) in enumerate(paths.items()):
        colour, style = ("#555555", ":") if path == "joint" else (colours[i % len(colours)], "-")
        for ax, phase in zip(axes, titles, strict=True):
            rows = drawing.rows(table, phase=phase, path=path)
            drawing.line_with_band(
                ax, rows["lag"], rows, colour, label, scale=1 / drawing.LN10, linestyle=style
            )
    for ax, title in zip(axes, titles.values(), strict=True):
        ax.set(title=title, xlabel="lag k (steps back from the end)")
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
