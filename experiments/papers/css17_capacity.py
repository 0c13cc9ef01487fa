"""How many numbers of its past can a recurrent network hold? One for each hidden unit.

Claim: a network of any architecture reconstructs a random vector of n numbers, shown once, some
steps later if and only if it has at least n hidden units; with fewer the error of all architectures
follows the same curve, that of a subspace of as many dimensions as there are units (Collins,
Sohl-Dickstein, Sussillo 2017, "Capacity and trainability in recurrent neural networks",
arXiv:1611.09913, section 2.2 and figure 2c, for n = 64). In units of chance the curve is 1 - H/n
for H < n units, and 0 from n on: `rnnjax.tasks.VectorMemoryCollins2017`.

As in the paper: n = 64; one layer of tanh or GRU units, read by an affine layer at the last step;
the squared error; all parameters are trained. Different: two of the six architectures, one depth;
the vector is normal, and asked at step 5 (the paper's appendix with its choices was not at hand);
instead of a tuner's hundreds of runs for each network, Adam at a rate that falls to zero like a
cosine, and scales set by hand: input kernels orthogonal with gain .1, where tanh is nearly linear,
and a bias of 1 that keeps the GRU's state.

Verdict: `reproduced` if, in every network of every cell, on held-out vectors: with n or more units
the error is below 1 / 2n of chance, half of what one missing dimension costs; with fewer it is
within .02 of 1 - H/n. Else `not reproduced`; `quick run only` if --steps, --seeds, --batch-size,
--size, --length or the number of --units is below its default.

    python experiments/papers/css17_capacity.py
    python experiments/papers/css17_capacity.py --cells gru lstm ./mine.py:MyCell --seeds 8
"""

import dataclasses
import functools
import itertools
from typing import Any

import rnnjax
from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.cells.initializers import Orthogonal
from rnnjax.command_line import ArgumentError, at_least, distinct, progress, rising
from rnnjax.experiment import TrainingOptions, Verdict, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

SCALES = {
    "elman": {"kernel_init": Orthogonal(0.1)},
    "gru": {"kernel_init": Orthogonal(0.1), "forget_bias": 1.0},
    "lstm": {"kernel_init": Orthogonal(0.1)},
}
CLOSE = 0.02  # to 1 - H/n


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Train networks of several sizes to reconstruct a vector that they have read once.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    cells: tuple[str, ...] = ("elman", "gru")
    """Cells to compare, as in the other experiments."""
    units: tuple[int, ...] = (32, 48, 56, 64, 80, 96)
    """Hidden units H of the networks, in rising order."""
    size: int = 64
    """Numbers n of the vector."""
    length: int = 5
    """Steps of a sequence: the vector is read at the first and asked at the last."""
    steps: int = 4000
    """Training updates."""
    batch_size: int = 64
    learning_rate: float = 1e-2
    """Step size of the Adam optimiser, from which it falls to zero like a cosine."""
    seeds: int = 3
    snapshots = 1  # of the error, in the end

    def __post_init__(self):
        super().__post_init__()
        distinct(self, "cells")
        if len({*map(short_name, self.cells)}) < len(self.cells):
            raise ArgumentError(f"--cells must have names that differ, got {' '.join(self.cells)}")
        rising(self, "units")
        at_least(1, self, "size")
        at_least(2, self, "length")
        if not (self.units and 1 <= self.units[0] < self.size <= self.units[-1]):
            given = " ".join(map(str, self.units))
            allowed = f"at least 1, some below --size {self.size} and some not"
            raise ArgumentError(f"--units must be {allowed}; got {given}")
        for name in self.cells:
            try:
                make_cell(name, self.units[0])
            except ValueError as error:
                raise ArgumentError(f"--cells {error}") from None

    def make_task(self):
        return tasks.VectorMemoryCollins2017(self.length, self.size)


def make_cell(name, units):
    return networks.make_cell(name, units, **SCALES.get(name, {}))


def answer(cell, params, batch):
    """Return what the network says at the last step `[1, B, n]`, and the batch of this step."""
    carry, _ = rnnjax.unroll(cell, params.cell, batch.inputs)
    output = cell.output(carry) @ params.kernel + params.bias
    return output[None], tasks.last_answer(batch)[1]


def make_train_step(config, cell, task):
    import optax

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))

    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(*answer(cell, params, batch))

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step, optimizer


def train(config, run, name, units, held_out):
    """Train the networks of all seeds, and return their errors on held-out vectors, `[S]`."""
    cell, task = make_cell(name, units), config.make_task()
    step, optimizer = make_train_step(config, cell, task)
    state = readout.start(config, optimizer, cell, task)
    options = {"cell": name, "units": units}
    options["sample"] = functools.partial(task.sample, batch_size=config.batch_size)

    @training.over_population
    def errors(params, batch):
        return task.loss(*answer(cell, params, batch)) / task.chance

    found = experiment.train_and_probe(config, run, step, state, errors, held_out, **options)
    return found.observed()[config.steps]


def measure(config, run):
    task, cells, rows = config.make_task(), {}, []
    (held_out,) = experiment.sampled_sets(task, config.members, 1024)
    every = range(config.units[-1] + 1)
    curve = np.array([task.least_loss(units) for units in every])
    published = dict.fromkeys(("median", "q25", "q75"), curve)
    rows.append({"network": "curve", "units": np.array(every), **published})
    for name, units in progress([*itertools.product(config.cells, config.units)], "networks"):
        errors = train(config, run, name, units, held_out)
        cells.setdefault(short_name(name), {})[str(units)] = errors.tolist()
        band = diagnostics.quartiles(errors)
        rows.append({"network": name, "units": units, **band})
        run.write_table("errors", rows)
    least = {str(units): task.least_loss(units) for units in config.units}
    return {"size": config.size, "cells": cells, "curve": least}


def verdict(config, summary):
    size, conditions = summary["size"], {}
    for cell, of in summary["cells"].items():
        enough = [max(errors) for units, errors in of.items() if int(units) >= size]
        conditions[f"{cell}: {size} units or more reconstruct"] = max(enough) < 1 / (2 * size)
        off = [
            np.abs(np.subtract(errors, summary["curve"][units])).max()
            for units, errors in of.items()
            if int(units) < size
        ]
        conditions[f"{cell}: fewer units follow the curve"] = max(off) <= CLOSE
    few = "steps", "seeds", "batch_size", "size", "length"
    number = {"units": (len(config.units), len(Config.units))}
    return Verdict.judge(conditions).unless_quick(config, *few, **number)


def show(summary):
    rows = [
        [f"{cell}, {units} units", *np.quantile(errors, (0.5, 0, 1)), summary["curve"][units]]
        for cell, of in summary["cells"].items()
        for units, errors in of.items()
    ]
    experiment.print_table(["network", "error over chance", "least", "most", "curve"], rows)


def draw(run):
    size = run.read_object("summary.json")["size"]
    words: dict[str, Any] = {"xlabel": "hidden units H", "ylabel": "squared error over chance"}
    words |= {"reference": "curve", "names": {"curve": "published: H dimensions, 1 - H/n"}}
    words |= {"places": {float(size): f"n = {size}"}}
    experiment.draw_curves(run, "errors", "units", "network", **words)
    table = run.read_table("errors")
    words |= {"level": 1 / (2 * size), "log_y": True, "table": table}
    experiment.draw_curves(run, "errors_log", "units", "network", **words)


run = experiment.Experiment("css17_capacity", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
