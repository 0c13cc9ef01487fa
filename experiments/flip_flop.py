"""What does a network that stores three bits look like inside? A cube of fixed points.

Claim: a network trained on the 3-bit flip-flop keeps its memories in eight stable fixed points, one
for each combination of bits, at the corners of a cube. On each edge of the cube, between two
memories that differ in one bit, lies a saddle with one unstable direction: pulses push the state
across it (Sussillo, Barak 2013, "Opening the black box: low-dimensional dynamics in
high-dimensional recurrent neural networks", section 3.2, for rate networks).

Fixed points without input are searched from states that the network visits, with noise, in float64.
A point lies where its output says: at a corner if all outputs are within 0.1 of 1 or -1; on an edge
if all but one are, and that one is within 0.9 of zero.

Verdict: `reproduced` if in every network of every cell the stable points are eight, one at each
corner, and each of the twelve edges has one point with one unstable direction, and no more. Else
`not reproduced`; `quick run only` if --steps, --seeds, --starts or --features is below its default.

    python experiments/flip_flop.py
    python experiments/flip_flop.py --cells gru ./mine.py:MyCell --bits 2 --seeds 4
"""

import dataclasses

import rnnjax
from rnnjax import dynamics, experiment, tasks
from rnnjax.command_line import at_least, positive, progress
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

CLOSE = 0.1  # to 1 or -1
SHOWN = 6  # sequences drawn


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks to store bits, and find the fixed points in which they keep them.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute and a half on two CPU cores.
    """

    bits: int = 3
    """Bits to store."""
    length: int = 64
    """Steps of a sequence."""
    probability: float = 0.25
    """Of a pulse, in each channel and step."""
    features: int = 16
    steps: int = 2000
    """Training updates."""
    batch_size: int = 64
    learning_rate: float = 1e-2
    """Step size of the Adam optimiser, from which it falls to zero like a cosine."""
    seeds: int = 2
    starts: int = 1024
    """Starts of the search for fixed points, for each network."""
    noise: float = 0.5
    """Standard deviation of the noise that is added to visited states to make starts."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "starts")
        at_least(0, self, "noise")
        positive(self, "probability")
        self.make_task()

    def make_task(self):
        given = {"bits": self.bits, "length": self.length, "probability": self.probability}
        return experiment.make_task({"flip_flop": tasks.NBitFlipFlop}, "flip_flop", **given)


def make_train_step(config, cell, task):
    import optax

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))

    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step, optimizer


@jax.enable_x64(True)
def search(config, cell, params, inputs):
    """Return the fixed points of one network without input, and the plane that it moves in."""
    params, xs = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, inputs))
    _, _, carries = rnnjax.unroll(cell, params.cell, xs, return_carries=True)
    key = jax.random.key(config.seed)
    starts = dynamics.visited_states(cell, carries, key, config.starts, noise=config.noise)
    found = dynamics.fixed_points(cell, params.cell, xs[0, 0] * 0, starts)
    points = jax.tree.map(jnp.asarray, found.points)
    outputs = cell.output(points) @ params.kernel + params.bias
    return {"outputs": outputs, **experiment.in_plane(found, carries, SHOWN)}


def describe(found):
    """Return how many points there are of which kind, and which corners and edges have theirs."""
    outputs, unstable = found["outputs"], found["num_unstable"]
    settled = np.abs(np.abs(outputs) - 1) <= CLOSE
    corners = [signs(y) for y in outputs[(unstable == 0) & settled.all(1)]]
    between = ~settled & (np.abs(outputs) <= 1 - CLOSE)
    on_edge = (between.sum(1) == 1) & ((settled | between).all(1)) & (unstable == 1)
    edges = [signs(np.where(b, 0, y)) for y, b in zip(outputs, between, strict=True)]
    edges = [edge for edge, here in zip(edges, on_edge, strict=True) if here]
    return {
        "stable": int((unstable == 0).sum()),
        "corners": len(set(corners)),
        "saddles": int((unstable == 1).sum()),
        "edges": len(set(edges)),
        "by_unstable_directions": np.bincount(unstable).tolist(),
        "largest_q": float(found["q"].max(initial=0)),
        "participation_ratio": float(found["participation_ratio"]),
    }


def signs(outputs):
    return tuple(np.sign(outputs).astype(int).tolist())


def measure(config, run):
    task, cells, tables = config.make_task(), {}, {}
    held_out = task.sample(jax.random.fold_in(jax.random.key(config.seed), 1), 256)
    for full_name in config.cells:
        name, cell = short_name(full_name), config.make_cell(full_name)
        step = make_train_step(config, cell, task)
        params = readout.train(config, run, full_name, task, *step)
        entry = readout.score_alike(cell, task, params, held_out) | {"networks": []}
        for i, seed in progress(list(enumerate(config.members)), f"fixed points, {name}"):
            own = experiment.member(params, i)
            found = run.cached(f"{name} {seed}", search, config, cell, own, held_out.inputs)
            entry["networks"].append(describe(found))
            if not i:  # figures show the first network of each cell
                for table, rows in experiment.phase_tables(found, cell=name).items():
                    tables.setdefault(table, []).extend(rows)
        cells[name] = entry
        for table, rows in tables.items():
            run.write_table(table, rows)
    return {"bits": config.bits, "cells": cells}


def verdict(config, summary):
    bits, conditions = summary["bits"], {}
    corners, edges = 2**bits, bits * 2 ** (bits - 1)
    for cell, entry in summary["cells"].items():
        of = entry["networks"]
        at_corners = all(n["stable"] == n["corners"] == corners for n in of)
        conditions[f"{cell}: {corners} stable points, one at each corner"] = at_corners
        on_edges = all(n["saddles"] == n["edges"] == edges for n in of)
        conditions[f"{cell}: {edges} saddles, one on each edge"] = on_edges
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "starts", "features")


def show(summary):
    header = ["cell", "seed", "loss", "stable", "corners", "saddles", "edges", "all, by unstable"]
    rows = []
    for cell, entry in summary["cells"].items():
        for i, found in enumerate(entry["networks"]):
            kinds = " ".join(map(str, found["by_unstable_directions"]))
            counts = [found[key] for key in ("stable", "corners", "saddles", "edges")]
            rows.append([cell, i, entry["loss_of_seeds"][i], *counts, kinds])
    experiment.print_table(header, rows)


def draw(run):
    experiment.draw_phase_planes(run, panel="cell")


run = experiment.Experiment("flip_flop", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
