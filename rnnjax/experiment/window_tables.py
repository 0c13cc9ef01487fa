"""Windows of truncated back-propagation beside draws of an unbiased gradient: tables and figures.

Tables:

errors     relative errors against the window k, by cell: of truncation, and of averaged draws
networks   a row for each network: its half-life, V, and the windows with which draws are no better
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnnjax import diagnostics
from rnnjax.experiment.drawing import draw_curves
from rnnjax.experiment.tables import Tables
from rnnjax.runs import Run


def add_windows(
    tables: Tables,
    cell: str,
    networks: Sequence[Mapping[str, Any]],
    errors: Mapping[Any, Sequence[Any]],
    averaged: Sequence[int],
) -> None:
    """Add rows to the tables `errors` and `networks`.

    Args:
        tables: lists of rows by name.
        cell: in all rows.
        networks: rows of numbers, each with its `variance` V, the mean squared error of one draw
            relative to the squared norm of the gradient.
        errors: relative errors of truncation after 1 .. K steps, `[K]` for each network, by the
            name of a series: the table has median and quartiles.
        averaged: numbers of draws M; each is a series at sqrt(V / M), over all networks.
    """
    missed = {name: np.stack(list(of), axis=-1) for name, of in errors.items()}
    windows = 1 + np.arange(len(next(iter(missed.values()))))
    spread = np.sqrt([row["variance"] for row in networks])
    series = {}
    for m in averaged:
        name = "UORO, 1 draw" if m == 1 else f"UORO, {m:,} draws"
        series[name] = np.tile(spread / np.sqrt(m), (len(windows), 1))
    series |= missed
    for name, values in series.items():
        place = {"cell": cell, "series": name, "k": windows}
        tables["errors"].append(place | diagnostics.quartiles(values))
    tables["networks"].extend({"cell": cell, **row} for row in networks)


def draw_windows(run: Run, crossing: str, draws: int) -> None:
    """Draw `errors` against the window, and as `crossings` a window against the half-life.

    Args:
        crossing: the column of the table `networks` that is drawn.
        draws: M, of that column; straight lines are k = h/2 log2(M / V) for V of 1 and the median.
    """
    from rnnjax import figures

    axes: dict[str, Any] = {"log_x": True, "log_y": True}
    labels = {"xlabel": "window k, steps", "ylabel": "error relative to the gradient"}
    shown: dict[str, Any] = {"panel": "cell", "ylim": (0.01, 100.0), "legend_below": True}
    draw_curves(run, "errors", "k", "series", **shown, **labels, **axes)
    table = run.read_table("networks")
    slopes = {}
    for variance, note in ((1.0, ""), (np.nanmedian(table["variance"]), ", the median")):
        slope = np.log2(draws / variance) / 2
        if slope > 0:
            slopes[f"formula: {slope:.1f} half-lives (V = {variance:.0f}{note})"] = slope
    labels = {"xlabel": "half-life h of the gradient, steps"}
    labels["ylabel"] = f"window k* that equals {draws:,} draws, steps"
    figure = figures.points(table, "half_life", crossing, "cell", slopes=slopes, **labels, **axes)
    run.save_figure("crossings", figure)
