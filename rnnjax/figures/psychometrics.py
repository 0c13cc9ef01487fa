"""Psychometric curves: how often a choice is made at each strength of the evidence."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rnnjax.figures import drawing, styles

Z = 1.96  # standard deviations of a 95% interval
HOLLOW = "white"


def psychometric_curves(
    points: drawing.Table,
    fits: drawing.Table | None = None,
    *,
    series: str,
    panel: str | None = None,
    names: Mapping[Any, str] | None = None,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw the share of a choice against the strength of the evidence, with fitted logistic curves.

    Bars are Wilson's 95% intervals of a binomial share; they stay within 0 and 1 and do not vanish
    where all trials agree. Every other series has hollow markers and a dashed curve.

    Args:
        points: columns `strength`, `count`, the trials, `share`, that of the choice among them, and
            those named by `series` and `panel`.
        fits: columns `threshold` and `slope`, a row for each series and panel; see
            `tasks.trials.fit_logistic`. No curve is drawn for a row that is not finite.
        series: name of the column with the series of each point.
        panel: name of the column with the panel; panels are in order of first appearance. None
            means one.
        names: titles and labels by value of `panel` and `series`; the default is `styles.label`.
        xlabel, ylabel: labels of the axes.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22.
    """
    parts = drawing.split(points, panel)
    figure, axes = drawing.panels(len(parts), sharey=True)
    style = styles.series(np.asarray(points[series]).tolist(), names)
    for ax, part in zip(axes, parts, strict=True):
        title = None if panel is None else np.asarray(part[panel])[0].item()
        here = {} if panel is None else {panel: title}
        for value in drawing.unique(part[series]):
            rows, look = drawing.rows(part, **{series: value}), style[value]
            second = look.place % 2 == 1
            low, high = wilson_interval(rows["share"], rows["count"])
            share = rows["share"]
            bars: dict[str, Any] = {"color": look.colour, "marker": look.marker, "capsize": 2}
            if second:
                bars["markerfacecolor"] = HOLLOW
            ax.errorbar(
                *(rows["strength"], share),
                yerr=np.maximum([share - low, high - share], 0),
                linestyle="none",
                label=look.label,
                zorder=3,
                **bars,
            )
            if fits is None:
                continue
            wide = np.abs(rows["strength"]).max() * 1.05
            x = np.linspace(-wide, wide, 201)
            fit = drawing.rows(fits, **here, **{series: value})
            for threshold, slope in zip(fit["threshold"], fit["slope"], strict=True):
                if np.isfinite(threshold) and np.isfinite(slope):
                    y = 0.5 * (1 + np.tanh(0.5 * slope * (x - threshold)))
                    ax.plot(x, y, "--" if second else "-", color=look.colour, linewidth=1.2)
        ax.axhline(0.5, color="black", linestyle=":", linewidth=0.8, zorder=1)
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlabel(xlabel)
        if panel is not None:
            ax.set_title(styles.label(title, names))
    axes[0].set_ylabel(ylabel)
    axes[0].legend(loc="upper left", fontsize="small")
    return figure


def wilson_interval(share: Any, count: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's 95% interval of a binomial share.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    """
    p, n = np.asarray(share, float), np.asarray(count, float)
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return middle - half, middle + half
