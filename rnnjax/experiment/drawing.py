"""Tables of a run drawn as curves and heat maps, and the figures that every application has."""

from collections.abc import Mapping
from typing import Any

from rnnjax.runs import Run


def draw_curves(
    run: Run,
    name: str,
    x: str,
    series: str,
    *,
    table: Mapping[str, Any] | None = None,
    label_format: str | None = None,
    names: Mapping[Any, str] | None = None,
    **options: Any,
) -> None:
    """Draw a table with `figures.curves` and save the figure under `name`.

    Nothing is drawn if the run has not written the table, or if the table has no rows.

    Args:
        name: of the figure, and of the table unless the columns are given.
        x, series, options: as for `figures.curves`.
        table: columns to draw; None means those of the run's table `name`.
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
    run.save_figure(name, figures.curves(table, x, series, names=names, **options))


def draw_heat_maps(run: Run, name: str, x: str, y: str, value: str, **options: Any) -> None:
    """Draw the run's table `name` with `figures.heat_maps` and save the figure under that name.

    Nothing is drawn if the table has no rows.

    Args:
        name: of the table and the figure.
        x, y, value, options: as for `figures.heat_maps`.
    """
    from rnnjax import figures

    table = run.read_table(name)
    if len(table[x]):
        run.save_figure(name, figures.heat_maps(table, x, y, value, **options))


def draw(run: Run) -> None:
    """Draw `gradients`, the gradient against the lag, and `training`, the training loss."""
    from rnnjax import figures

    draw_curves(
        run,
        "gradients",
        x="lag",
        series="layer",
        xlabel=figures.LAG,
        ylabel="share of the gradient",
        natural_logs=True,
    )
    # A run shorter than `record_every` has no training loss.
    draw_curves(run, "training", "step", "series", xlabel="update", ylabel="loss")
