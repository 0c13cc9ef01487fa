"""All singular values of products of Jacobians, as they spread with the lag."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from rnnjax.figures import drawing, styles


def log_spectra(
    table: drawing.Table,
    *,
    panel: str,
    names: Mapping[Any, str] | None = None,
    ylabel: str = "singular value",
) -> Figure:
    """Draw every singular value against the lag, coloured by its rank.

    Args:
        table: columns `lag`, `index` (0 for the largest) and `log_value` (natural logs), and
            `panel`, in order of lags. Values that are not finite are left out.
        panel: name of the column with the panel; panels are in order of first appearance.
        names: titles by value of `panel`; the default is `styles.label`.
        ylabel: label of the y axis.
    """
    parts = drawing.split(table, panel)
    figure, axes = drawing.panels(len(parts), sharey=True)
    for ax, part in zip(axes, parts, strict=True):
        colours = ScalarMappable(Normalize(0, max(1, np.max(part["index"]))), styles.SEQUENTIAL)
        for rows in drawing.split(part, "index"):
            values = np.where(np.isfinite(rows["log_value"]), rows["log_value"], np.nan)
            colour = colours.to_rgba(rows["index"][0])
            ax.plot(rows["lag"], values / drawing.LN10, color=colour, linewidth=0.8)
        ax.set(title=styles.label(part[panel][0], names), xlabel=styles.LAG)
    axes[0].set_ylabel(ylabel)
    drawing.powers_of_ten(axes[0])
    return figure
