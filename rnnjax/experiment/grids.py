"""A grid of settings, trained with several seeds in one program: as tables, and as maps.

Tables:

members    a row for each network: its settings, and what it reached
settings   a row for each setting: the median over seeds of the loss over chance
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import training
from rnnjax.cells.initializers import Gaussian
from rnnjax.experiment import readout
from rnnjax.experiment.tables import select
from rnnjax.runs import Run


def start(
    cell: Any, task: Any, optimizer: Any, settings: Mapping[str, Any], drawn: Any = None
) -> training.TrainState:
    """Return the state of one member before training: a cell read by a linear head.

    W ~ N(0, 1/H), b = 0. Seed s splits `jax.random.key(s)` into the keys of W, of the cell and of
    training, so that members with the same seed share their random numbers.

    Args:
        settings: of the member, with its `seed`; kept in the state.
        drawn: the cell with the member's settings, which draws the parameters; None means `cell`.
    """
    keys = jax.random.split(jax.random.key(settings["seed"]), 3)
    kernel = Gaussian()(keys[0], (cell.output_size, task.output_size))
    cell_params = (cell if drawn is None else drawn).init(keys[1], task.input_size)
    params = readout.Readout(cell_params, kernel, jnp.zeros(task.output_size))
    opt_state = optimizer.init(params)
    return training.TrainState(params, opt_state, jnp.int32(0), keys[2], settings)


def train(
    config: Any,
    run: Run,
    members: Mapping[str, np.ndarray],
    start: Callable[[Any], training.TrainState],
    train_step: training.TrainStep,
    sample: Callable[[Any], Any],
    **labels: Any,
) -> training.TrainingResult:
    """Train all members for `config.steps` updates; those that become non-finite stop alone.

    Args:
        config: has `steps`, `record_every`, `checkpoint_every` and `keep`.
        members: their settings, as from `training.grid`.
        start: returns the state of a member from its settings.
        train_step, sample: as for `ResumableTraining.train_on_samples`.
        labels: on every line of metrics.jsonl, whose `seed` is the number of the member.
    """
    numbers = range(len(members["seed"]))
    resumable = training.ResumableTraining.from_config(config, run, numbers, **labels)
    state = training.over_population(start)(members)
    return resumable.train_on_samples(
        train_step, state, sample, steps=config.steps, chunk_size=config.steps
    )


def member_table(
    trained: training.TrainingResult,
    members: Mapping[str, Any],
    evaluate: Callable[[training.TrainState], Mapping[str, Any]],
    chance: float,
    **labels: Any,
) -> dict[str, Any]:
    """Return the columns of `members`: labels, settings, updates, loss, loss over chance, accuracy.

    Loss and accuracy of members that stopped are NaN.

    Args:
        members: their settings.
        evaluate: returns the `loss` and the `accuracy` of one member on held-out sequences.
        chance: the loss of the best memoryless answer.
        labels: the same in all rows.
    """
    found = jax.tree.map(np.asarray, training.over_population(evaluate)(trained.state))
    updates = np.sum([chunk.counts for chunk in trained.chunks], axis=0)
    going = updates == trained.chunks[-1].step
    return {
        **labels,
        "member": np.arange(np.size(going)),
        **members,
        "updates": updates,
        "loss": np.where(going, found["loss"], np.nan),
        "loss_of_chance": np.where(going, found["loss"] / chance, np.nan),
        "accuracy": np.where(going, found["accuracy"], np.nan),
    }


def solved(task: Any, table: Mapping[str, Any]) -> list[int]:
    """Return 1 for each row of `members` that passes the task's success rule, 0 for the others."""
    reached = zip(table["loss"], table["accuracy"], strict=True)  # NaN passes no rule
    return [int(task.success({"loss": loss, "accuracy": share})) for loss, share in reached]


def over_seeds(table: Mapping[str, Any], *settings: str) -> dict[str, np.ndarray]:
    """Return statistics of the loss over chance, a row for each setting.

    Args:
        table: columns of `members`.
        settings: names of the columns that distinguish settings, with or without `seed`.
    """
    columns = {name: table[name] for name in (*settings, "seed")}
    return training.aggregate_seeds(columns, table["loss_of_chance"])


def write(run: Run, tables: Sequence[Mapping[str, Any]], maps: Sequence[Mapping[str, Any]]) -> None:
    """Write the parts of the tables `members`, also as Parquet, and `settings`."""
    run.write_table("members", tables)
    run.write_parquet("members", run.read_table("members"))
    run.write_table("settings", maps)


def trains(rows: Mapping[str, np.ndarray], threshold: float, setting: str, *by: str) -> Any:
    """Return the values of a setting whose median is below the threshold, by other settings.

    Args:
        rows: from `over_seeds`.
        setting: name of its column.
        by: names of other settings; their values, as text, are the keys of the nested result. A
            setting that the rows do not have has the value None.
    """
    if not by:
        return rows[setting][rows["median"] < threshold].tolist()
    name, *others = by
    if name not in rows:
        return {"None": trains(rows, threshold, setting, *others)}
    values = dict.fromkeys(rows[name].tolist())
    parts = {str(value): select(rows, **{name: value}) for value in values}
    return {value: trains(part, threshold, setting, *others) for value, part in parts.items()}


def totals(rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the best setting, and how many members there are and have stopped, for a summary.

    Args:
        rows: from `training.aggregate_seeds`.
    """
    best = int(rows["median"].argmin())
    return {
        "best": {name: column[best].item() for name, column in rows.items()},
        "stopped": int(rows["stopped"].sum()),
        "members": int(rows["members"].sum()),
    }


def draw_maps(
    run: Run, name: str, table: Mapping[str, Any], x: str, y: str, **options: Any
) -> None:
    """Draw the loss over chance as heat maps over two settings; nothing if there are no rows.

    Args:
        name: of the figure.
        table: rows of `settings`.
        x, y, options: as for `figures.heat_maps`.
    """
    from rnnjax import figures

    if not len(table[x]):
        return
    shown = np.clip(table["median"], 0.01, 2)
    figure = figures.heat_maps(
        {**table, "median": np.where(table["median"] < np.inf, shown, np.nan)},
        x,
        y,
        "median",
        label="loss / chance, median over seeds\n(cut off at 0.01 and 2)",
        log=True,
        not_finite="half of the seeds or more stopped",
        **options,
    )
    run.save_figure(name, figure)
