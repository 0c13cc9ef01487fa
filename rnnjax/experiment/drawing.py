"""Tables of a run drawn as curves and heat maps, and the figures that every application has."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnnjax.experiment.gradients import layer_label
from rnnjax.experiment.tables import select
from rnnjax.runs import Run


def draw_curves(
    run: Run,
    name: str,
    x: str,
    series: str,
    *,
    table: Mapping[str, Any] | None = None,
    value: str = "median",
    label_format: str | None = None,
    names: Mapping[Any, str] | None = None,
    **options: Any,
) -> None:
    """Draw a table with `figures.curves` and save the figure under `name`.

    Nothing is drawn if the run has not written the table, or if the table has no rows.

    Args:
        name: of the figure, and of the table unless the columns are given.
        x, series, options: as for `figures.curves`; the label of an x axis `lag` is `figures.LAG`
            unless another is given.
        table: columns to draw; None means those of the run's table `name`.
        value: the column that is drawn.
        label_format: the label of a value of `series`, such as "gain {:g}".
        names: labels that go before it, by value.
    """
    from rnnjax import figures

    if table is None:
        if not run.has_table(name):
            return
        table = run.read_table(name)
    if not len(table[x]):
        return
    if label_format is not None:
        values = dict.fromkeys(table[series].tolist())
        names = {value: label_format.format(value) for value in values} | dict(names or {})
    if value != "median":
        table = {**table, "median": table[value]}
    if x == "lag":
        options = {"xlabel": figures.LAG} | options
    run.save_figure(name, figures.curves(table, x, series, names=names, **options))


def draw_tables(run: Run, drawings: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
    """Draw a table of the run with each function, and save the figure under the table's name.

    A table that the run has not written is left out.

    Args:
        drawings: name of the table -> function of its columns to a figure.
    """
    for name, drawing in drawings.items():
        if run.has_table(name):
            run.save_figure(name, drawing(run.read_table(name)))


def draw_shares(run: Run, name: str, series: str, **options: Any) -> None:
    """Draw each lag's share of a gradient, in natural logs, against the lag: see `draw_curves`."""
    from rnnjax import figures

    labels = {"xlabel": figures.LAG, "ylabel": "share of the gradient"}
    draw_curves(run, name, "lag", series, natural_logs=True, **labels, **options)


def draw_layers(run: Run, table: Mapping[str, Any], **options: Any) -> None:
    """Draw the shares of every layer as `layers_PHASE`, one panel for each network.

    Args:
        table: as `record_shares` makes it.
        options: as for `draw_curves`.
    """
    labelled = {**table, "layer": np.array([layer_label(layer) for layer in table["layer"]])}
    for phase in dict.fromkeys(table["phase"].tolist()):
        rows = select(labelled, phase=phase)
        draw_shares(run, f"layers_{phase}", "layer", table=rows, panel="network", **options)


def draw_heat_maps(
    run: Run,
    name: str,
    x: str,
    y: str,
    value: str,
    *,
    table: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Draw a table with `figures.heat_maps` and save the figure under `name`; nothing without rows.

    Args:
        name: of the figure, and of the table unless the columns are given.
        table: columns to draw; None means those of the run's table `name`.
        x, y, value, options: as for `figures.heat_maps`.
    """
    from rnnjax import figures

    if table is None:
        table = run.read_table(name)
    if len(table[x]):
        run.save_figure(name, figures.heat_maps(table, x, y, value, **options))


def draw(run: Run) -> None:
    """Draw `gradients`, the gradient against the lag, and `training`, the training loss."""
    draw_shares(run, "gradients", "layer")
    # A run shorter than `record_every` has no training loss.
    draw_curves(run, "training", "step", "series", xlabel="update", ylabel="loss")
