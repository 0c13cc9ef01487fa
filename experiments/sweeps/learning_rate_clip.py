"""Which learning rates train a network, and does clipping its gradient widen their range?

Claim: a gradient that sometimes explodes makes stochastic gradient descent diverge at learning
rates that most updates would bear; scaled down to a largest norm it does not, so that more learning
rates train with clipping than without (Pascanu, Mikolov, Bengio 2013, "On the difficulty of
training recurrent neural networks", arXiv:1211.5063, sections 3.2 and 4.1).

A setting trains if the median seed's loss on held-out sequences is below half of chance; a member
whose loss becomes NaN or infinite stops alone and counts as the worst. All settings and seeds of a
cell on a task are one population in one program; seeds share initial weights and batches between
settings. The optimiser is SGD with momentum: Adam's updates hardly depend on the gradient's scale.

Finding, for each cell and task: `wider` if the best clip lets more of the learning rates train than
no clipping does, `as wide`, `narrower`, or `nothing trained`. Verdict: `reproduced` if it is wider
for every cell and task of which something trained; else `not reproduced`; `inconclusive` if nothing
trained at all; `quick run only` if --steps, --seeds, --features or --length is below its default.

    python experiments/sweeps/learning_rate_clip.py
    python experiments/sweeps/learning_rate_clip.py --length 50 --steps 2000
"""

import dataclasses
import functools
import itertools
import math
from typing import Literal

from rnnjax import experiment, networks, tasks, training
from rnnjax.command_line import ArgumentError, at_least, distinct, finite
from rnnjax.experiment import CellOptions, SeedOptions, Verdict, grids, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

TASKS = {
    "temporal_order": tasks.TemporalOrder,
    "adding": tasks.AddingArjovsky2016,
    "copy_memory": functools.partial(tasks.CopyMemory, symbols=4, memorise=2),
}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Map the loss over learning rate and clip, for each cell and task, medians over seeds.

    Prints a table and writes figures (PNG, SVG), members (a row for each network; CSV and Parquet),
    settings.csv (over seeds), metrics.jsonl (its `seed` is the row of members.csv) and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    tasks: tuple[Literal[tuple(TASKS)], ...] = ("temporal_order", "adding")  # pyright: ignore
    """What to learn; copy_memory recalls 2 of 4 symbols."""
    length: int = 30
    """Sequence length T of each task."""
    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """Of gradient descent."""
    clips: tuple[float, ...] = (0.1, 1.0, 10.0, math.inf)
    """Largest global norms of the gradient; `inf` does not clip, and must be among them."""
    momentum: float = 0.9
    """Of gradient descent; 0 is none."""
    features: int = 32
    steps: int = 1000
    """Training updates."""
    batch_size: int = 16
    """Sequences per update."""
    seeds: int = 3
    record_every: int = 100
    """Updates between two entries of metrics.jsonl."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "steps", "batch_size", "record_every")
        distinct(self, "tasks", "clips")
        finite(self, "learning_rates", above=0)
        if not min(self.clips) > 0:
            raise ArgumentError(f"--clips must be positive, got {self.clips}")
        if math.inf not in self.clips:
            raise ArgumentError(f"--clips must have inf among them, got {self.clips}")
        if not 0 <= self.momentum < 1:
            raise ArgumentError(f"--momentum must lie in [0, 1), got {self.momentum}")
        for name in self.tasks:
            self.make_task(name)

    def make_task(self, name):
        return experiment.make_task(TASKS, name, length=self.length)


def make_optimizer(config, settings):
    import optax

    clip = optax.clip_by_global_norm(settings["clip"])
    return optax.chain(clip, optax.sgd(settings["learning_rate"], momentum=config.momentum))


def make_start(config, cell, task):
    """Return the function of a member's settings to its state."""
    return lambda settings: grids.start(cell, task, make_optimizer(config, settings), settings)


def make_train_step(config, cell, task):
    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        optimizer = make_optimizer(config, state.settings)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def evaluate(task, cell, state):
    """Return loss and accuracy on sequences never trained on."""
    key = jax.random.fold_in(jax.random.key(state.settings["seed"]), 1)
    batch = task.sample(key, 1024)
    return task.metrics(readout.apply(cell, state.params, batch.inputs), batch)


def measure(config, run):
    tables, maps, summary = [], [], {}
    axes = {"learning_rate": config.learning_rates, "clip": config.clips}
    members = training.grid(**axes, seed=config.members)
    for task_name, cell_name in itertools.product(config.tasks, config.cells):
        task, cell = config.make_task(task_name), config.make_cell(cell_name)
        labels = {"cell": short_name(cell_name), "task": task_name}
        start, step = make_start(config, cell, task), make_train_step(config, cell, task)
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        trained = grids.train(config, run, members, start, step, sample, **labels)
        of_member = functools.partial(evaluate, task, cell)
        table = grids.member_table(trained, members, of_member, task.chance, **labels)
        tables.append(table | {"success": grids.solved(task, table)})
        rows = grids.over_seeds(table, *axes)
        maps.append({**labels, **rows})
        found = conclude(tables[-1], rows)
        summary.setdefault(task_name, {})[short_name(cell_name)] = found
    grids.write(run, tables, maps)
    return summary


def conclude(table, rows):
    """Return what the map of a cell on a task says."""
    trains = grids.trains(rows, 0.5, "learning_rate", "clip")
    counts = {float(clip): len(rates) for clip, rates in trains.items()}
    free = counts.pop(math.inf)
    most = max(counts.values(), default=0)
    words = "wider" if most > free else "as wide" if most == free else "narrower"
    return {
        "trains": trains,
        **grids.totals(rows),
        "success": float(np.mean(table["success"])),
        "finding": words if most or free else "nothing trained",
    }


def verdict(config, summary):
    conditions = {
        f"{cell}, {task}: more learning rates train with clipping": entry["finding"] == "wider"
        for task, cells in summary.items()
        for cell, entry in cells.items()
        if entry["finding"] != "nothing trained"
    }
    judged = Verdict.judge(conditions, otherwise="nothing trained")
    return judged.unless_quick(config, "steps", "seeds", "features", "length")


def draw(run):
    """Draw the figures of a run from its tables."""
    table = run.read_table("settings")
    table = experiment.select(table, np.argsort(table["clip"], kind="stable"))
    table["clip"] = np.array(["none" if c == np.inf else f"{c:g}" for c in table["clip"]])
    names = {cell: networks.label(cell) for cell in table["cell"].tolist()}
    options = {"panel": "cell", "names": names}
    options |= {"xlabel": "learning rate", "ylabel": "largest gradient norm"}
    for task in dict.fromkeys(table["task"].tolist()):
        rows = experiment.select(table, task=task)
        grids.draw_maps(run, task, rows, "learning_rate", "clip", **options)


def show(summary):
    print("Learning rates that train, by largest gradient norm (inf: no clipping)")
    rows, trains = [], {}
    for task, cells in summary.items():
        for cell, entry in cells.items():
            trains, stopped = entry["trains"], f"{entry['stopped']}/{entry['members']}"
            counts = map(len, trains.values())
            rows.append([f"{task} {cell}", *counts, stopped, entry["finding"]])
    clips = [f"clip {float(clip):g}" for clip in trains]
    experiment.print_table(["task, cell", *clips, "stopped", "finding"], rows)


run = experiment.Experiment("learning_rate_clip", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
