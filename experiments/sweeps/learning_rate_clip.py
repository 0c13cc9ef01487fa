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
trained at all.

The file is longer than 200 lines because members that stop are followed one by one.

    python experiments/sweeps/learning_rate_clip.py
    python experiments/sweeps/learning_rate_clip.py --length 50 --steps 2000
"""

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import experiment, networks, tasks, training
from rnnjax.cells.initializers import Gaussian
from rnnjax.command_line import ArgumentError, at_least, distinct, finite
from rnnjax.experiment import CellOptions, SeedOptions, Verdict, readout
from rnnjax.networks import short_name

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

    def start(settings):
        keys = jax.random.split(jax.random.key(settings["seed"]), 3)
        kernel = Gaussian()(keys[0], (cell.output_size, task.output_size))
        cell_params = cell.init(keys[1], task.input_size)
        params = readout.Readout(cell_params, kernel, jnp.zeros(task.output_size))
        opt_state = make_optimizer(config, settings).init(params)
        return training.TrainState(params, opt_state, jnp.int32(0), keys[2], settings)

    return start


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


def train(config, cell_name, task_name, run):
    """Train all settings and seeds of a cell on a task, and return them as a table."""
    cell, task = config.make_cell(cell_name), config.make_task(task_name)
    labels = {"cell": short_name(cell_name), "task": task_name}
    members = training.grid(
        learning_rate=config.learning_rates, clip=config.clips, seed=config.members
    )
    numbers = range(len(members["seed"]))
    resumable = training.ResumableTraining.from_config(config, run, numbers, **labels)
    trained = resumable.train_on_samples(
        make_train_step(config, cell, task),
        training.over_population(make_start(config, cell, task))(members),
        functools.partial(task.sample, batch_size=config.batch_size),
        steps=config.steps,
        chunk_size=config.steps,
    )

    def evaluate(state):
        key = jax.random.fold_in(jax.random.key(state.settings["seed"]), 1)
        batch = task.sample(key, 1024)
        return task.metrics(readout.apply(cell, state.params, batch.inputs), batch)

    found = jax.tree.map(np.asarray, training.over_population(evaluate)(trained.state))
    updates = sum(chunk.counts for chunk in trained.chunks)
    going = updates == config.steps
    each = [{key: value[i] for key, value in found.items()} for i in numbers]
    return {
        **labels,
        "member": numbers,
        **members,
        "updates": updates,
        "loss": np.where(going, found["loss"], np.nan),  # NaN: it stopped
        "loss_of_chance": np.where(going, found["loss"] / task.chance, np.nan),
        "accuracy": np.where(going, found["accuracy"], np.nan),
        "success": [int(ok and task.success(m)) for ok, m in zip(going, each, strict=True)],
    }


def conclude(config, table, rows):
    """Return what the map of a cell on a task says."""
    trains = {clip: rows["median"][rows["clip"] == clip] < 0.5 for clip in config.clips}
    rates = {clip: np.array(config.learning_rates)[which] for clip, which in trains.items()}
    counts = {clip: int(which.sum()) for clip, which in trains.items()}
    free, most = counts[math.inf], max((n for c, n in counts.items() if c < math.inf), default=0)
    best = int(rows["median"].argmin())
    words = "wider" if most > free else "as wide" if most == free else "narrower"
    return {
        "trains": {str(clip): found.tolist() for clip, found in rates.items()},
        "best": {name: column[best].item() for name, column in rows.items()},
        "stopped": int(rows["stopped"].sum()),
        "members": int(rows["members"].sum()),
        "success": float(np.mean(table["success"])),
        "finding": words if most or free else "nothing trained",
    }


def measure(config, run):
    tables, maps, summary = [], [], {}
    for task in config.tasks:
        summary[task] = {}
        for cell in config.cells:
            table = train(config, cell, task, run)
            names = "learning_rate", "clip", "seed"
            rows = training.aggregate_seeds({k: table[k] for k in names}, table["loss_of_chance"])
            tables.append(table)
            maps.append({"cell": short_name(cell), "task": task, **rows})
            summary[task][short_name(cell)] = conclude(config, table, rows)
    run.write_table("members", tables)
    run.write_parquet("members", run.read_table("members"))
    run.write_table("settings", maps)
    return summary


def verdict(config, summary):
    conditions = {
        f"{cell}, {task}: more learning rates train with clipping": entry["finding"] == "wider"
        for task, cells in summary.items()
        for cell, entry in cells.items()
        if entry["finding"] != "nothing trained"
    }
    return Verdict.judge(conditions, otherwise="nothing trained")


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table = run.read_table("settings")
    shown = np.clip(table["median"], 0.01, 2)
    table["median"] = np.where(table["median"] < np.inf, shown, np.nan)
    table["clip"] = np.array(["none" if c == np.inf else f"{c:g}" for c in table["clip"]])
    for task in dict.fromkeys(table["task"].tolist()):
        rows = experiment.select(table, task=task)
        order = np.argsort([float(c.replace("none", "inf")) for c in rows["clip"]], kind="stable")
        figure = figures.heat_maps(
            experiment.select(rows, order),
            x="learning_rate",
            y="clip",
            value="median",
            panel="cell",
            names={cell: networks.label(cell) for cell in rows["cell"].tolist()},
            xlabel="learning rate",
            ylabel="largest gradient norm",
            label="loss / chance, median over seeds\n(cut off at 0.01 and 2)",
            log=True,
            not_finite="half of the seeds or more stopped",
        )
        run.save_figure(task, figure)


def show(summary):
    print("Learning rates that train, by largest gradient norm (inf: no clipping)")
    rows = [
        [
            f"{task} {cell}",
            *map(len, entry["trains"].values()),
            f"{entry['stopped']}/{entry['members']}",
            entry["finding"],
        ]
        for task, cells in summary.items()
        for cell, entry in cells.items()
    ]
    first = next(entry for cells in summary.values() for entry in cells.values())
    clips = [f"clip {float(clip):g}" for clip in first["trains"]]
    experiment.print_table(["task, cell", *clips, "stopped", "finding"], rows)


run = experiment.Experiment("learning_rate_clip", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
