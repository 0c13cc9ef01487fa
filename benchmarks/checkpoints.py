"""What checkpoints cost: training with and without one every so many updates.

One network learns the adding problem, twice in turn: through `training.train_on_samples`, which
writes nothing, and through a `training.ResumableTraining`, which writes metrics and saves the
parameters and the optimiser's state in the background. The script first checks that both give the
same parameters, to the last bit. It then compares the time from one checkpoint to the next.

    python benchmarks/checkpoints.py
    python benchmarks/checkpoints.py --cells gru --features 64
"""

import dataclasses
import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import timing

if __name__ == "__main__":
    timing.keep_memory()

import rnnjax
from rnnjax import networks, tasks, training
from rnnjax.command_line import at_least, parse
from rnnjax.runs import Run

import jax
import jax.numpy as jnp
import numpy as np
import optax
from libraries import CELLS, check_cells


@dataclasses.dataclass(frozen=True)
class Config:
    """Time training with checkpoints beside training without; the bound is 3 % at 256 units."""

    cells: tuple[str, ...] = CELLS
    """Which cells: elman, lstm, gru, or one of your own, ./mine.py:MyCell."""
    features: int = 256
    """H."""
    length: int = 100
    """T."""
    batch_size: int = 32
    """B."""
    every: int = 100
    """Updates between two checkpoints."""
    checkpoints: int = 5
    """Checkpoints of a training; the first is left out, since compiling precedes it."""
    rounds: int = 3
    """How often both trainings are done."""
    out: Path | None = None
    """Directory for checkpoints.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "features", "batch_size", "every", "rounds")
        at_least(2, self, "length", "checkpoints")
        check_cells(self.cells)
        timing.check_directory(self.out)


def make_training(config: Config, name: str) -> tuple[Any, Any, Any]:
    """Return the train step, the state before it, and the sampler."""
    cell, task = (
        networks.make_cell(name, config.features),
        tasks.AddingArjovsky2016(length=config.length),
    )
    optimizer = optax.adam(1e-3)

    def start(key):
        params = cell.init(key, task.input_size), jnp.zeros((cell.output_size, task.output_size))
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), key)

    def train_step(state, batch):
        def loss_fn(params):
            _, hidden = rnnjax.unroll(cell, params[0], batch.inputs)
            return task.loss(hidden @ params[1], batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        return state._replace(params=params, opt_state=opt_state, step=step), {"loss": loss}

    state = training.over_population(start)(jax.random.split(jax.random.key(0), 1))
    return train_step, state, functools.partial(task.sample, batch_size=config.batch_size)


def without(config: Config, pieces: Any) -> tuple[list[float], Any]:
    """Train without writing; return the seconds between checkpoints, and the parameters."""
    options = {"steps": config.every * config.checkpoints, "chunk_size": config.every}
    moments, params = [], None
    for chunk in training.train_on_samples(*pieces, **options):
        moments.append(time.time())
        params = chunk.state.params
    return np.diff(moments).tolist(), params


def with_them(config: Config, pieces: Any) -> tuple[list[float], Any]:
    """The same through `ResumableTraining`."""
    options = {"steps": config.every * config.checkpoints, "chunk_size": config.every}
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", config)
        resumable = training.ResumableTraining(run, {}, [0], checkpoint_every=config.every)
        trained = resumable.train_on_samples(*pieces, **options)
        moments = [row["time"] for row in run.read_rows("times.jsonl")]
    return np.diff(moments).tolist(), trained.state.params


def measure(config: Config, name: str) -> dict[str, Any]:
    """Return the row of a cell."""
    pieces = make_training(config, name)
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(config.rounds):
        found, want = without(config, pieces)
        seconds["without"] += found
        found, got = with_them(config, pieces)
        seconds["with"] += found
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    plain, saving = (timing.median(seconds[way]) for way in ("without", "with"))
    sizes = jax.tree.map(lambda a: a.nbytes, pieces[1]._replace(key=None))
    return {
        "cell": name,
        "MB saved": sum(jax.tree.leaves(sizes)) / 1e6,
        "s without": plain,
        "quartiles": "-".join(f"{q:.3g}" for q in timing.quartiles(seconds["without"])),
        "s with": saving,
        "quartiles with": "-".join(f"{q:.3g}" for q in timing.quartiles(seconds["with"])),
        "cost, %": 100 * (saving / plain - 1),
        "bound": "< 3",
    }


def run(config: Config) -> list[dict[str, Any]]:
    """Time every cell, print the table, and write the requested files."""
    training.use_all_cores()
    rows = []
    for name in config.cells:
        timing.say(f"{name}: training {2 * config.rounds} times")
        rows.append(measure(config, name))
        print(json.dumps(rows[-1]), flush=True)
    table = timing.table(rows)
    print(table)
    timing.write_json(config.out, "checkpoints", {"conditions": timing.conditions(), "rows": rows})
    if config.docs:
        text = (
            f"`python benchmarks/checkpoints.py`: H = {config.features}, T = {config.length}, "
            f"B = {config.batch_size}; seconds for {config.every} updates, without writing "
            "anything, and with metrics and a checkpoint (parameters, Adam's moments) in the "
            f"background. Medians of {config.rounds} trainings of each kind in turn."
            f"\n\n{table}\n\n{timing.conditions('orbax-checkpoint')}"
        )
        timing.write_section("Checkpoints", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
