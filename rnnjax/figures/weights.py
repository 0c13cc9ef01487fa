"""Parameters as histograms, blocks, eigenvalues and singular values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnnjax.figures import drawing, styles


def histograms(
    table: drawing.Table,
    series: str,
    *,
    panel: str | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    log_x: bool = False,
) -> Figure:
    """Draw a histogram for each series, median and quartiles over seeds, on a log scale.

    Empty bins are left out. The legend gives the share that is exactly zero or not finite, which is
    in no bin.

    Args:
        table: columns `series`, `low` and `high` (the edges of a bin, in rising order), `median`,
            `q25`, `q75` (of the share or number of entries in it), and, if there are any, `zero`
            and `not_finite` (the share or number of those, the same in all rows of a series).
        series: name of the column with the histogram.
        panel: name of the column with the panel; panels are in order of first appearance.
        names: titles and labels by value of `panel` and `series`; the default is `styles.label`.
        xlabel: the quantity that was counted.
        log_x: bins of equal width in the logarithm, as from `diagnostics.log_histogram`.
    """
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), sharey=True)
    looks = styles.series(table[series].tolist(), names)
    known = np.concatenate([table[name] for name in ("median", "q25", "q75")])
    least = np.min(known[known > 0], initial=1.0)  # where a band down to zero ends
    ends = 0.8 * least, 1.5 * np.max(known[known > 0], initial=least)
    for ax, part in zip(axes, parts, strict=True):
        for rows in drawing.split(part, series):
            value, edges = rows[series][0], [*rows["low"], rows["high"][-1]]
            counts = {
                name: np.where(rows[name] > 0, rows[name], np.nan)
                for name in ("median", "q25", "q75")
            }
            look = looks[value]
            style = {"color": look.colour, "linestyle": look.dashes, "baseline": None}
            ax.stairs(counts["median"], edges, label=_counted(rows, look.label), **style)
            floor = np.where(rows["q25"] > 0, rows["q25"], least)
            shade = {"step": "post", "color": look.colour, "alpha": 0.2, "linewidth": 0}
            ax.fill_between(edges, _post(floor), _post(counts["q75"]), **shade)
        ax.set(ylim=ends, yscale="log", xlabel=xlabel, xscale="log" if log_x else "linear")
        if panel is not None:
            ax.set(title=styles.label(part[panel][0], names))
        ax.legend(fontsize="small")
    axes[0].set_ylabel("entries in a bin")
    return figure


def _post(values):
    return [*values, values[-1]]


def _counted(rows, label):
    """Return the label of a histogram, with the entries that are in none of its bins."""
    apart = {"zero": "zero", "not_finite": "not finite"}
    found = [f"{rows[c][0]:.3g} {what}" for c, what in apart.items() if c in rows and rows[c][0]]
    return ", ".join([label, *found])


def block_maps(blocks: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw each block of parameters as a heat map: one row per kernel, one column per gate.

    Blue is negative and red positive, on a symmetric scale that all gates of a kernel share. Values
    that are not finite are white.

    Args:
        blocks: kernel -> gate -> `[rows, columns]` or `[columns]`, as from `diagnostics.by_gate`.
    """
    wide = max(map(len, blocks.values()))
    figure = Figure(figsize=(1.5 + 2 * wide, 0.5 + 2.1 * len(blocks)), layout="constrained")
    axes = figure.subplots(len(blocks), wide, squeeze=False)
    for line, (kernel, gates) in zip(axes, blocks.items(), strict=True):
        maps = {gate: np.atleast_2d(np.asarray(block, float)) for gate, block in gates.items()}
        known = np.concatenate([block[np.isfinite(block)] for block in maps.values()])
        high = np.abs(known).max(initial=0) or 1
        image: Any = None
        for ax, (gate, block) in zip(line, maps.items(), strict=False):
            shown = np.where(np.isfinite(block), block, np.nan)
            scale, colours = Normalize(-high, high), styles.DIVERGING
            image = ax.imshow(shown, norm=scale, cmap=colours, aspect="auto", interpolation="none")
            ax.set(title=gate, xticks=[], yticks=[])
        for ax in line[len(maps) :]:
            ax.set_axis_off()
        line[0].set_ylabel(kernel.replace("_", "\n"), rotation=0, ha="right", va="center")
        figure.colorbar(image, ax=list(line))
    return figure


def eigenvalues(
    table: drawing.Table,
    *,
    panel: str = "gate",
    names: Mapping[Any, str] | None = None,
    colour: str = "step",
    colour_label: str = "training step",
) -> Figure:
    """Draw eigenvalues in the complex plane with the unit circle, coloured by a number.

    Args:
        table: columns `real` and `imag`, `panel` and `colour`.
        panel: name of the column with the panel; panels are in order of first appearance.
        names: titles by value of `panel`; the default is `styles.label`.
        colour: name of the column with the number; larger ones lie on top.
        colour_label: what the number is.
    """
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), sharex=True, sharey=True)
    least, most = np.min(table[colour]), np.max(table[colour])
    scale = Normalize(least, max(most, least + 1))
    angle = np.linspace(0, 2 * np.pi, 200)
    dots: Any = None
    for ax, part in zip(axes, parts, strict=True):
        ax.plot(np.cos(angle), np.sin(angle), color="black", linewidth=0.8)
        order = np.argsort(part[colour], kind="stable")  # the last on top
        real, imag, of = (part[name][order] for name in ("real", "imag", colour))
        dots = ax.scatter(real, imag, c=of, norm=scale, cmap=styles.SEQUENTIAL, s=8, linewidths=0)
        ax.set(title=styles.label(part[panel][0], names), xlabel="real part")
        ax.set_aspect("equal")
    axes[0].set_ylabel("imaginary part")
    figure.colorbar(dots, ax=list(axes), label=colour_label, ticks=MaxNLocator(integer=True))
    return figure


def singular_values(
    table: drawing.Table, *, panel: str = "gate", names: Mapping[Any, str] | None = None
) -> Figure:
    """Draw each singular value against the training step; zeros are left out.

    Args:
        table: columns `step`, `rank` (1 for the largest) and `value`, and `panel`, in order of
            steps.
        panel: name of the column with the panel; panels are in order of first appearance.
        names: titles by value of `panel`; the default is `styles.label`.
    """
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), sharey=True)
    colours = ScalarMappable(Normalize(1, max(2, np.max(table["rank"]))), styles.SEQUENTIAL)
    for ax, part in zip(axes, parts, strict=True):
        for rows in drawing.split(part, "rank"):
            values = np.where(rows["value"] > 0, rows["value"], np.nan)
            alone = "." if np.isfinite(values).sum() == 1 else ""
            colour = colours.to_rgba(rows["rank"][0])
            ax.plot(rows["step"], values, color=colour, marker=alone, linewidth=1)
        ax.axhline(1, color="black", linestyle=":", linewidth=0.8)
        ax.set(title=styles.label(part[panel][0], names), xlabel="training step", yscale="log")
    axes[0].set_ylabel("singular value")
    figure.colorbar(colours, ax=list(axes), label="rank")
    return figure
