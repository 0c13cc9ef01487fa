"""Gates, adjoints and updates of networks while they learn: as tables, and as figures.

Tables, a row for each average over some steps of training, or for each bin:

learning_curves   the training loss
saturation        of each gate, the share of units and sequences below 0.1 and above 0.9
update_ratios     of each parameter, the norm of the update over that of the weights
adjoint_norms     the gradient with respect to the state at a few lags, relative to lag 1
gates             histograms of each gate before and after training
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnjax import diagnostics, networks
from rnnjax.diagnostics.memory import confidence_interval
from rnnjax.experiment.drawing import draw_curves
from rnnjax.experiment.tables import PHASES, Tables
from rnnjax.runs import Run

LIVE = {  # metrics of every step, by the start of their names, and tables
    "loss": "learning_curves",
    "gate_": "saturation",
    "update_ratio_": "update_ratios",
    "adjoint_norm_lag_": "adjoint_norms",
}
HEAD = {"kernel": "kernel of the head", "bias": "bias of the head"}
SIDES = {"low": "below 0.1", "high": "above 0.9"}


def record(tables: Tables, name: str, trained: Any) -> None:
    """Add the live metrics of a cell's training, and the histograms of its gates, to the tables.

    Args:
        tables: lists of rows by name.
        name: of the cell, in the tables.
        trained: a `training.TrainingResult` with the metric `loss` and those of `diagnostics.live`.
            What it observed has `gates`, `diagnostics.GateStatistics` of all seeds by gate.
    """
    for chunk in trained.chunks:
        record_live(tables, name, chunk)
    first, *_, last = trained.observed().values()
    for phase, observed in {"before": first, "after": last}.items():
        for gate, found in observed["gates"].items():
            row = {"cell": name, "gate": gate, "phase": phase}
            row |= {"low": found.edges[0, :-1], "high": found.edges[0, 1:]}
            tables["gates"].append(row | diagnostics.quartiles(found.counts.T))


def record_live(tables: Tables, name: str, chunk: Any, windows: int = 4) -> None:
    """Add the metrics of a chunk of training, averaged over parts of it, to the tables.

    Members that have stopped are left out.

    Args:
        tables, name: as for `record`.
        chunk: a `training.ChunkRecord`.
        windows: how many parts, at most one per update.
    """
    at = chunk.first_step - 1
    going = chunk.counts == chunk.step - at
    metrics = {metric: values[:, going] for metric, values in chunk.metrics.items()}
    for part in np.array_split(np.arange(chunk.step - at), min(windows, chunk.step - at)):
        means = {metric: values[part].mean(0) for metric, values in metrics.items()}  # [S]
        nearest = means["adjoint_norm_lag_1"]
        for metric, values in means.items():
            for prefix, table in LIVE.items():
                if metric.startswith(prefix) and not metric.endswith("_mean"):
                    if table == "adjoint_norms":
                        values = np.divide(values, nearest, where=nearest > 0, out=nearest * np.nan)
                    row = {"cell": name, "series": metric[len(prefix) :], "step": at + part[-1] + 1}
                    tables[table].append(row | diagnostics.quartiles(values))


def saturation(gates: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of units and sequences below 0.1 or above 0.9, as `saturated_GATE`.

    The median over seeds.

    Args:
        gates: `diagnostics.GateStatistics` of all seeds, by gate.
    """
    shares = {gate: (found.low + found.high).mean(-1) for gate, found in gates.items()}  # [S]
    return {f"saturated_{gate}": float(np.median(share)) for gate, share in shares.items()}


def growth(before: Any, after: Any) -> dict[str, Any]:
    """Return medians over seeds before and after training, and the median growth, for a summary.

    The growth of a seed is its value after training over that before; `growth` has the median over
    seeds with its 95 % bootstrap interval.

    Args:
        before, after: `[S]`.
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    ratios = after / before
    found = confidence_interval(functools.partial(np.median, axis=-1), ratios)
    return {
        "before": float(np.median(before)),
        "after": float(np.median(after)),
        "growth": {key: float(value) for key, value in found._asdict().items()},
        "growth_of_seeds": ratios.tolist(),
    }


def growth_text(entry: Mapping[str, Any] | None) -> str | None:
    """Return what `growth` found as text: `3 -> 12  (4 [3.5, 5])`; None for None."""
    if entry is None:
        return None
    found = "{value:.3g} [{low:.3g}, {high:.3g}]".format(**entry["growth"])
    return f"{entry['before']:.3g} -> {entry['after']:.3g}  ({found})"


def draw(run: Run, chance: float) -> None:
    """Draw the tables of a run.

    Args:
        chance: the loss of the best memoryless answer.
    """
    from rnnjax import figures

    figure = figures.learning_curves(run.read_table("learning_curves"), chance)
    run.save_figure("learning_curves", figure)
    plot = functools.partial(draw_curves, run, x="step", series="series", xlabel="training step")
    plot_cells = functools.partial(plot, panel="cell", log_y=True)
    ratios, norms = (_in_order(run.read_table(t)) for t in ("update_ratios", "adjoint_norms"))
    label = "norm of update / norm of weights"
    plot_cells("update_ratios", table=ratios, names=HEAD, ylabel=label)
    label = "norm of the adjoint at lag k / at lag 1"
    plot_cells("adjoint_norms", table=norms, label_format="k = {:g}", ylabel=label)
    if run.has_table("gates"):
        saturation = run.read_table("saturation")
        gate, side = np.char.partition(saturation["series"], "_").T[[0, 2]]
        saturation = _with_panels(saturation | {"gate": gate, "series": side})
        label = "share of units and sequences"
        plot("saturation", table=saturation, panel="panel", names=SIDES, ylabel=label)
        gates, label = _with_panels(run.read_table("gates")), "value of the gate"
        figure = figures.histograms(gates, "phase", panel="panel", names=PHASES, xlabel=label)
        run.save_figure("gates", figure)


def _in_order(table):
    """Return a table of live metrics, which come in alphabetical order, sorted by series."""
    order = np.argsort(table["series"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def _with_panels(table):
    """Return a table with a panel for each gate of each cell."""
    pairs = zip(table["cell"], table["gate"], strict=True)
    panels = [f"{networks.label(cell)}, gate {gate}" for cell, gate in pairs]
    return table | {"panel": np.array(panels)}
