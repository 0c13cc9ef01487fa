"""Lines of slow points as tables: where they lie, their modes, and what moves a state along."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnjax.experiment.drawing import draw_curves
from rnnjax.experiment.phase_tables import draw_phase_planes, phase_tables


def add_line_tables(
    tables: dict[str, list[Any]], lines: Sequence[Any], panels: Sequence[str], dt: float | int
) -> None:
    """Add rows of the tables of `phase_tables`, and of `modes` and `selection`, to tables.

    The last two follow a line in order of the log odds of its points: the time constants of the
    first two modes, 1 / |ln |lambda|| in ms, and overlaps with the selection vector.

    Args:
        tables: rows by table.
        lines: arrays as `in_plane` returns them and, of P slow points, `log_odds`, `relevant` and
            `irrelevant` `[P]`; of its paths `coherence`.
        panels: the value of the column `panel` for each line.
        dt: a step in ms.
    """
    for found, panel in zip(lines, panels, strict=True):
        order = np.argsort(found["log_odds"])
        with np.errstate(divide="ignore"):
            times = dt / np.abs(np.log(np.abs(found["eigenvalues"])))
        place = {"panel": panel, "log_odds": found["log_odds"][order]}
        series = {
            "modes": {"slow mode": times[:, 0], "second mode": times[:, 1]},
            "selection": {"relevant input": found["relevant"], "other input": found["irrelevant"]},
        }
        rows = phase_tables(found, {"coherence": found["coherence"]}, panel=panel)
        rows |= {
            table: [place | {"series": name, "median": of[order]} for name, of in both.items()]
            for table, both in series.items()
        }
        for table, parts in rows.items():
            tables.setdefault(table, []).extend(parts)


def draw_lines(run: Any) -> None:
    """Draw the tables of `add_line_tables`: `fixed_points`, `eigenvalues`, `modes`, `selection`."""
    label = "coherence of the relevant stimulus, %"
    draw_phase_planes(run, panel="panel", colour="coherence", colour_label=label)
    x = "log odds of the first choice at the slow point, nats"
    options: dict[str, Any] = {"panel": "panel", "xlabel": x}
    times: dict[str, Any] = {"ylabel": "time constant, ms", "log_y": True}
    draw_curves(run, "modes", "log_odds", "series", **times, **options)
    overlap: dict[str, Any] = {"ylabel": "overlap with the selection vector", "ylim": (-0.02, 1.0)}
    draw_curves(run, "selection", "log_odds", "series", **overlap, **options)
