"""Which learning rates train a network, and does clipping its gradient widen their range?

Claim: a gradient that sometimes explodes makes stochastic gradient descent diverge at learning
rates that most updates would bear; scaled down to a largest norm it does not, so that more learning
rates train with clipping than without (Pascanu, Mikolov, Bengio 2013, "On the difficulty of
training recurrent neural networks", arXiv:1211.5063, sections 3.2 and 4.1).

A setting trains if the median seed's loss on held-out sequences is below half of chance; a member
whose loss becomes NaN or infinite stops alone and counts as the worst. All settings and seeds of a
cell on a task are one population in one program; seeds share initial weights and batches between
settings. The optimiser is SGD with momentum: Adam's updates hardly depend on the gradient's scale.

Verdict, for each cell and task: `wider` if the best clip lets more of the learning rates train than
no clipping does, `as wide`, `narrower`, or `nothing trained`.

    python experiments/sweeps/learning_rate_clip.py
    python experiments/sweeps/learning_rate_clip.py --length 50 --steps 2000
"""

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import tasks, training
from rnnjax.command_line import ArgumentError, at_least, main
from rnnjax.experiment import RunOptions, in_run

CELLS = {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}
TASKS = {
    "temporal_order": tasks.TemporalOrder,
    "adding": tasks.AddingArjovsky2016,
    "copy_memory": functools.partial(tasks.CopyMemory, symbols=4, memorise=2),
}


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Map the loss over learning rate and clip, for each cell and task, medians over seeds.

    Prints a table and writes figures (PNG, SVG), members (a row for each network; CSV and Parquet),
    settings.csv (over seeds), metrics.jsonl (its `seed` is the row of members.csv) and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    cells: tuple[Literal[tuple(CELLS)], ...] = tuple(CELLS)  # pyright: ignore
    """Which cells to train."""
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
    """Hidden units of each cell."""
    steps: int = 1000
    """Training updates."""
    batch_size: int = 16
    """Sequences in an update."""
    seeds: int = 3
    """Networks for each setting."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    record_every: int = 100
    """Updates between two entries of metrics.jsonl."""

    def __post_init__(self):
        at_least(1, self, "features", "steps", "batch_size", "seeds", "record_every")
        at_least(0, self, "seed")
        for name, known in (("cells", CELLS), ("tasks", TASKS)):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ArgumentError(f"--{name} must name some of {', '.join(known)}, each once")
        for name, values in (("learning-rates", self.learning_rates), ("clips", self.clips)):
            if len(set(values)) < len(values) or not min(values, default=0) > 0:
                raise ArgumentError(f"--{name} must be positive, each once, got {values}")
        if max(self.learning_rates) == math.inf:
            raise ArgumentError(f"--learning-rates must be finite, got {self.learning_rates}")
        if math.inf not in self.clips:
            raise ArgumentError(f"--clips must have inf among them, got {self.clips}")
        if not 0 <= self.momentum < 1:
            raise ArgumentError(f"--momentum must lie in [0, 1), got {self.momentum}")
        for name in self.tasks:
            self.make_task(name)

    def make_task(self, name):
        try:
            return TASKS[name](length=self.length)
        except ValueError as error:
            raise ArgumentError(f"--{error}") from None


class Model(NamedTuple):
    """Parameters: a cell's, and those of a linear head y = h W + b."""

    cell: Any
    kernel: Any
    bias: Any


def apply(cell, params, inputs):
    _, hidden = rnnjax.unroll(cell, params.cell, inputs)
    return hidden @ params.kernel + params.bias


def make_optimizer(config, settings):
    import optax

    clip = optax.clip_by_global_norm(settings["clip"])
    return optax.chain(clip, optax.sgd(settings["learning_rate"], momentum=config.momentum))


def make_start(config, cell, task):
    """Return the function of a member's settings to its state."""

    def start(settings):
        keys = jax.random.split(jax.random.key(settings["seed"]), 3)
        kernel = rnnjax.cells.initializers.Gaussian()(keys[0], (cell.features, task.output_size))
        params = Model(cell.init(keys[1], task.input_size), kernel, jnp.zeros(task.output_size))
        opt_state = make_optimizer(config, settings).init(params)
        return training.TrainState(params, opt_state, jnp.int32(0), keys[2], settings)

    return start


def make_train_step(config, cell, task):
    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(apply(cell, params, batch.inputs), batch)

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
    cell, task = CELLS[cell_name](config.features), config.make_task(task_name)
    seeds = range(config.seed, config.seed + config.seeds)
    members = training.grid(learning_rate=config.learning_rates, clip=config.clips, seed=seeds)
    numbers = range(len(members["seed"]))
    trained = training.ResumableTraining.from_config(
        config, run, numbers, cell=cell_name, task=task_name
    )
    trained = trained.train_on_samples(
        make_train_step(config, cell, task),
        training.over_population(make_start(config, cell, task))(members),
        functools.partial(task.sample, batch_size=config.batch_size),
        steps=config.steps,
        chunk_size=config.steps,
    )

    def evaluate(state):
        key = jax.random.fold_in(jax.random.key(state.settings["seed"]), 1)
        batch = task.sample(key, 1024)
        return task.metrics(apply(cell, state.params, batch.inputs), batch)

    found = jax.tree.map(np.asarray, training.over_population(evaluate)(trained.state))
    updates = sum(chunk.counts for chunk in trained.chunks)
    going = updates == config.steps
    each = [{key: value[i] for key, value in found.items()} for i in numbers]
    return {
        "cell": cell_name,
        "task": task_name,
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
        "verdict": words if most or free else "nothing trained",
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
            maps.append({"cell": cell, "task": task, **rows})
            summary[task][cell] = conclude(config, table, rows)
    run.write_table("members", tables)
    run.write_parquet("members", run.read_table("members"))
    run.write_table("settings", maps)
    print_summary(config, summary)
    return summary


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table = run.read_table("settings")
    shown = np.clip(table["median"], 0.01, 2)
    table["median"] = np.where(table["median"] < np.inf, shown, np.nan)
    table["clip"] = np.array(["none" if c == np.inf else f"{c:g}" for c in table["clip"]])
    for task in dict.fromkeys(table["task"].tolist()):
        rows = {name: column[table["task"] == task] for name, column in table.items()}
        order = np.argsort([float(c.replace("none", "inf")) for c in rows["clip"]], kind="stable")
        figure = figures.heat_maps(
            {name: column[order] for name, column in rows.items()},
            x="learning_rate",
            y="clip",
            value="median",
            panel="cell",
            names={"elman": "Elman", "lstm": "LSTM", "gru": "GRU"},
            xlabel="learning rate",
            ylabel="largest gradient norm",
            label="loss / chance, median over seeds\n(cut off at 0.01 and 2)",
            log=True,
            not_finite="half of the seeds or more stopped",
        )
        run.save_figure(task, figure)


def print_summary(config, summary):
    clips = [f"clip {clip:g}" for clip in config.clips]
    print("Learning rates that train, of", len(config.learning_rates))
    print(f"{'task':16}{'cell':7}" + "".join(f"{c:>11}" for c in clips) + "  stopped  verdict")
    for task, cells in summary.items():
        for cell, entry in cells.items():
            counts = "".join(f"{len(rates):11d}" for rates in entry["trains"].values())
            stopped = f"{entry['stopped']}/{entry['members']}"
            print(f"{task:16}{cell:7}{counts}  {stopped:>7}  {entry['verdict']}")


def run(config: Config) -> dict[str, Any]:
    """Run the experiment and return its summary, an entry for each task and cell."""
    return in_run("learning_rate_clip", config, functools.partial(measure, config), draw)


if __name__ == "__main__":
    main(Config, run)
