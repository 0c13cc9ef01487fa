"""One network for many tasks: how well it performs each, and which of them each unit serves.

Tables:

performance    share of right trials by `cell`, `task` and `step`, over seeds
variance       normalised task variance of each active unit, sorted by `cluster`, of the first seed
correlations   of normalised task variance over units, for each pair of tasks, of the first seed
fractional     histogram of the fractional variance of pairs of tasks, over seeds
special        share of units whose fractional variance is large, for each pair, mean over seeds

Source: Yang, Joglekar, Song, Newsome, Wang 2019, "Task representations in neural networks trained
to perform many cognitive tasks", Nature Neuroscience 22; github.com/gyyang/multitask, `variance.py`
and `clustering.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

import rnnjax
from rnnjax import diagnostics, training
from rnnjax.cells.initializers import Orthogonal
from rnnjax.command_line import ArgumentError, option
from rnnjax.experiment import readout
from rnnjax.experiment.clustering import can_cluster, clusters
from rnnjax.experiment.drawing import draw_curves, draw_heat_maps
from rnnjax.networks import label
from rnnjax.tasks.trials import aligned_trials, direction_correct, pairs_by_kind

ACTIVE = 1e-3  # the least task variance, summed over tasks, of a unit that counts as active
BINS = 20  # of fractional variance
MOST = 29  # clusters


def task_variance(
    rates: Float[Array, "T B H"], steps: Bool[Array, "T K"] | Bool[np.ndarray, "T K"]
) -> Float[Array, "K H"]:
    """Return the variance over a task's trials, averaged over steps, of each unit in each task.

        TV_k,i = mean over steps t of k of Var over trials of k of r_i(t)

    Args:
        rates: of B / K trials of each of K tasks, side by side.
        steps: which steps of each task count.
    """
    apart = rates.reshape(len(rates), steps.shape[1], -1, rates.shape[-1])
    return jnp.einsum("tkh,tk->kh", apart.var(axis=2), steps / steps.sum(0))


class TaskVariance(NamedTuple):
    """What `measure_variance` returns."""

    trained: Any  # [S, K, H]
    rotated: Any  # the control's


def measure_variance(
    cell: Any, params: Any, tasks: Sequence[Any], key: PRNGKeyArray, trials: int
) -> TaskVariance:
    """Return the task variance of S networks, and that of a control.

    Trials have no noise, and all trials of a task have one timing. The first epoch, fixation, is
    left out. The control has the same rates in a random basis, r Q with Q orthogonal.

    Args:
        cell, params: the cell, and its parameters `[S, ...]`.
        tasks: K tasks of `rnnjax.tasks.trials`, of one length.
        key: of the trials and of Q.
        trials: of each task.
    """
    probe = aligned_trials(tasks, key, trials)
    basis = Orthogonal()(jax.random.fold_in(key, 1), (cell.output_size, cell.output_size))

    def both(params, *, inputs, steps, basis):
        _, rates = rnnjax.unroll(cell, params, inputs)
        return TaskVariance(*(task_variance(r, steps) for r in (rates, rates @ basis)))

    shared = {"inputs": probe.inputs, "steps": probe.after_first, "basis": basis}
    return jax.tree.map(np.asarray, training.over_population(both)(params, **shared))


def normalised_variance(variance: Float[np.ndarray, "K H"]) -> Float[np.ndarray, "K A"]:
    """Return the task variance of active units, divided by each unit's largest."""
    active = variance[:, variance.sum(0) > ACTIVE]
    return active / active.max(0)


def fractional_variance(
    variance: Float[np.ndarray, "K H"], pairs: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " A"]:
    """Return (TV_A - TV_B) / (TV_A + TV_B) of the units that are active in a pair, for all pairs.

    Args:
        variance: TV.
        pairs: A and B, as places among the K tasks.
    """
    found = []
    for a, b in pairs:
        first, second = variance[[a, b]][:, variance[a] + variance[b] > ACTIVE]
        found.append((first - second) / (first + second))
    return np.concatenate(found)


def correlations(rows: Float[np.ndarray, "K A"]) -> Float[np.ndarray, "K K"]:
    """Return the correlation over units of each pair of tasks; NaN of one that is constant."""
    if rows.shape[1] < 2:
        return np.full((len(rows),) * 2, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(rows)


def share(holds: Bool[np.ndarray, " A"]) -> float:
    """Return the share of units for which something holds; 0 if there are none."""
    return float(holds.sum() / max(len(holds), 1))


def observe_performance(cell: Any, batch: Any, tasks: int) -> Callable[[Any], Any]:
    """Return a function of a `TrainState` to the share of right trials `[S, tasks]`.

    A trial is right by `tasks.trials.direction_correct`; outputs are sigmoid(r W + b).

    Args:
        cell: of a `readout.Readout`, of which the state has the parameters of S networks.
        batch: trials of all tasks side by side, equally many of each.
        tasks: how many.
    """

    @training.over_population
    def performance(params, *, batch):
        outputs = jax.nn.sigmoid(readout.apply(cell, params, batch.inputs))
        return direction_correct(outputs, batch).reshape(tasks, -1).mean(axis=1)

    return lambda state: performance(state.params, batch=batch)


def check_pairs(config: Any, name: str) -> None:
    """Raise an ArgumentError unless the named tasks have a pair of each kind of `pairs_by_kind`."""
    values = getattr(config, name)
    if not all(pairs_by_kind(values).values()):
        raise ArgumentError(
            f"{option(name)} must hold two that differ in a delay or the modality alone, such as "
            f"dm1 dm2, and two of different families, such as go dm1; got {' '.join(values)}"
        )


def tables(
    cell: str,
    tasks: Sequence[str],
    variance: TaskVariance,
    performance: Mapping[int, Float[np.ndarray, "S K"]],
    special: float,
) -> dict[str, list[dict[str, Any]]]:
    """Return rows of the tables for one cell.

    Args:
        cell: its name.
        tasks: their names.
        variance: as `measure_variance` returns it.
        performance: the share of right trials by update.
        special: the modulus of the fractional variance from which on it is large.
    """
    found: dict[str, list[dict[str, Any]]] = {
        "performance": [
            {"cell": cell, "task": task, "step": step, **diagnostics.quartiles(shares[:, k])}
            for k, task in enumerate(tasks)
            for step, shares in performance.items()
        ]
    }
    rows = normalised_variance(variance.trained[0])
    labels = np.zeros(rows.shape[1], int)
    if can_cluster(rows.T):
        labels = clusters(rows.T, MOST).labels
    order = np.lexsort((rows.argmax(0), labels))
    column = {"unit": np.arange(1, len(order) + 1), "cluster": labels[order] + 1}
    over_units = correlations(rows)
    for k, task in enumerate(tasks):
        place = {"cell": cell, "task": task}
        found.setdefault("variance", []).append(place | column | {"value": rows[k, order]})
        others = {"other": list(tasks), "value": over_units[k]}
        found.setdefault("correlations", []).append(place | others)
        shares = [
            np.mean(
                [share(np.abs(fractional_variance(v, [(k, j)])) > special) for v in variance[0]]
            )
            for j in range(len(tasks))
        ]
        found.setdefault("special", []).append(place | {"other": list(tasks), "value": shares})
    edges = np.linspace(-1, 1, BINS + 1)
    for kind, pairs in pairs_by_kind(tasks).items():
        a, b = pairs[-1]
        at = [(tasks.index(a), tasks.index(b))]
        for name, of_seeds in variance._asdict().items():
            counts = [np.histogram(fractional_variance(v, at), edges)[0] for v in of_seeds]
            shares = np.array([count / max(count.sum(), 1) for count in counts])
            row = {"panel": f"{label(cell)}: {a}, {b} ({kind})", "rates": name}
            row |= {"ftv": (edges[1:] + edges[:-1]) / 2, **diagnostics.quartiles(shares.T)}
            found.setdefault("fractional", []).append(row)
    return found


def draw(run: Any) -> None:
    """Draw the tables: figures of the same names."""
    table = run.read_table("performance")
    tasks, cells = (list(dict.fromkeys(table[name].tolist())) for name in ("task", "cell"))
    common: dict[str, Any] = {"panel": "cell", "names": {cell: label(cell) for cell in cells}}
    labels: dict[str, Any] = {"xlabel": "update", "ylabel": "share of trials performed"}
    draw_curves(run, "performance", "step", "task", level=0.95, **labels, **common)
    labels = {"xlabel": "fractional task variance", "ylabel": "share of units"}
    draw_curves(run, "fractional", "ftv", "rates", panel="panel", columns=2, **labels)
    common |= {"ys": tasks[::-1], "ylabel": "task"}  # the first on top
    labels = {"xlabel": "unit, sorted by cluster", "borders": "cluster"}
    labels |= {"label": "task variance, share of the unit's largest"}
    draw_heat_maps(run, "variance", "unit", "task", "value", **labels, **common)
    options = {"symmetric": True, "xlabel": "task", "label": "correlation over units"}
    draw_heat_maps(run, "correlations", "other", "task", "value", **options, **common)
    options = {"xlabel": "task", "label": "share of units special to one of two tasks"}
    draw_heat_maps(run, "special", "other", "task", "value", **options, **common)
