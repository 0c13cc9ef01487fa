"""The two figures of a sweep: parallel coordinates, and a heat map over two or three fields."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnnjax.runs import Run
from rnnjax.sweep import space
from rnnjax.sweep.settings import Sweep
from rnnjax.sweep.trial_table import Trial, field_column

BINS = 8  # of a range that is not a grid, in a heat map
MOST_PANELS = 6


def draw(sweep: Sweep, run: Run, found: Sequence[Trial]) -> None:
    """Draw the figures of a sweep's trials, and write the tables behind them."""
    from rnnjax import figures

    fields = list(sweep.settings.search)
    ranges = {n: part for n, part in sweep.space.items() if isinstance(part, space.Range)}
    started = [trial for trial in found if trial.settings]
    parts = {"number": [t.number for t in started], "state": [t.state for t in started]}
    for name in fields:
        column = field_column(started, name)
        if isinstance(part := sweep.space[name], space.Choice):
            labels = _labels(part)
            column = [labels[space.text(value)] for value in column]
        parts[name] = column
    objective = [trial.objective for trial in started]
    run.write_table("parallel_coordinates", [{**parts, "objective": objective}])
    table = {name: np.array(column) for name, column in {**parts, "objective": objective}.items()}
    options: dict[str, Any] = {"label": _label(sweep), "log_value": _log(objective)}
    figure = figures.parallel_coordinates(
        table,
        fields,
        "objective",
        log=[name for name, part in ranges.items() if part.log],
        largest=sweep.settings.direction == "maximize",
        state="state",
        names={name: name.replace("_", " ") for name in fields},
        **options,
    )
    run.save_figure("parallel_coordinates", figure)
    cells = _cells(sweep, started) if len(fields) > 1 else []
    if cells:
        _draw_heat_map(sweep, run, cells)


def _cells(sweep, started):
    """Return the best objective for each pair of values of two fields (and of a third) as rows."""
    x, y, *panel = _axes(sweep)
    sign = 1 if sweep.settings.direction == "minimize" else -1
    best: dict[tuple, float] = {}
    for trial in started:
        if trial.state in ("running", "waiting"):
            continue
        cell = tuple(_tick(sweep, name, trial.settings[name]) for name in (x, y, *panel))
        objectives = [v for v in (best.get(cell), trial.objective) if v is not None]
        finite = [value for value in objectives if math.isfinite(value)]
        best[cell] = min(finite, key=lambda value: sign * value, default=math.nan)
    return [
        {**dict(zip((x, y, *panel), cell, strict=True)), "objective": value}
        for cell, value in best.items()
    ]


def _axes(sweep):
    """Return the fields of a heat map: x, y, and one for panels if it has few values.

    Ranges come first, then the choices with the most values.
    """

    def key(name):
        return isinstance(sweep.space[name], space.Choice), -len(_values(sweep, name))

    x, y, *others = sorted(sweep.space, key=key)
    few = [name for name in others if 1 < len(_values(sweep, name)) <= MOST_PANELS]
    return [x, y, *few[-1:]]


def _values(sweep, name):
    """Return the ticks of a field's axis: its values, or the centres of the bins of a range."""
    part = sweep.space[name]
    if isinstance(part, space.Choice):
        return [*_labels(part).values()]
    if sweep.settings.sampler == "grid":
        return [*map(float, part.grid())]
    return [_centre(part, i) for i in range(BINS)] if part.low < part.high else [float(part.low)]


def _tick(sweep, name, value):
    """Return the tick of a value on its field's axis."""
    part = sweep.space[name]
    if isinstance(part, space.Choice):
        return _labels(part)[space.text(value)]
    if sweep.settings.sampler == "grid" or part.low == part.high:
        return float(value)
    low, high, position = map(math.log if part.log else float, (part.low, part.high, value))
    return _centre(part, min(int((position - low) / (high - low) * BINS), BINS - 1))


def _centre(part, index):
    fraction = (index + 0.5) / BINS
    if part.log:
        return float(part.low * (part.high / part.low) ** fraction)
    return float(part.low + (part.high - part.low) * fraction)


def _draw_heat_map(sweep, run, cells):
    from rnnjax import figures

    x, y, *panel = _axes(sweep)
    cells = sorted(cells, key=lambda row: [_values(sweep, n).index(row[n]) for n in (*panel, y, x)])
    run.write_table("heat_map", cells)
    table = {name: np.array([row[name] for row in cells]) for name in cells[0]}
    complete_grid = len(sweep.space) == 2 + len(panel) and sweep.settings.sampler == "grid"
    figure = figures.heat_maps(
        table,
        x,
        y,
        "objective",
        panel=panel[0] if panel else None,
        columns=3,
        xlabel=x.replace("_", " "),
        ylabel=y.replace("_", " "),
        label=_label(sweep) if complete_grid else f"best {_label(sweep)}",
        log=_log(table["objective"].tolist()),
        not_finite="no trial was complete",
        xs=_values(sweep, x),
        ys=_values(sweep, y),
    )
    run.save_figure("heat_map", figure)


def _label(sweep):
    return sweep.settings.objective.removeprefix("*.").replace("_", " ")


def _log(values):
    """Return whether values need a logarithmic scale: all above 0, over more than a decade."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite and min(finite) > 0 and max(finite) > 10 * min(finite))


def _labels(choice) -> Mapping[str, str]:
    """Return the label of each value: a cell of one's own without the path of its file.

    If two labels would be equal, all values keep their full text.
    """
    texts = [*map(space.text, choice.values)]
    short = ["+".join(word.rpartition(":")[2] for word in space.elements(text)) for text in texts]
    has_path = [".py:" in text for text in texts]
    labels = [s if path else t for s, path, t in zip(short, has_path, texts, strict=True)]
    return dict(zip(texts, labels if len(set(labels)) == len(labels) else texts, strict=True))
