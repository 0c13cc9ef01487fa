"""How many steps of truncated back-propagation is a gradient without bias worth?

Claim: if a network's gradient halves every h steps, back-propagation through the last k steps
misses about 2^(-k/h) of it and has no variance; UORO, averaged over M draws, has no bias and an
error of sqrt(V / M) (Tallec, Ollivier 2017, "Unbiased online recurrent optimization",
arXiv:1702.05043). So each half-life of the window is worth four times the draws, and the window
from which M draws are no better, k* = h/2 log2(M / V), grows like h: a few half-lives win against
any M within reach. UORO pays for networks that forget more slowly. The formula is this file's.

Networks learn by whole back-propagation to say their input of d steps ago, so they forget at
different rates. Measured on held-out sequences, of the last step's loss and the cell's parameters:
what every window misses, from the parts of the gradient by lag, and V = E |g^ - g|^2 over --draws
of UORO, both as means over sequences over that of |g|^2. h is fitted to the gradient of the state.
k* is the first k with an error of at most sqrt(V / M).

Verdict: `reproduced` if for every cell, at M = 10,000: (1) in every network one step of truncation
errs less than one draw of UORO, in which the random signs of all units add noise; (2) k* is at most
h/2 log2(M) = 6.6 h in every network, the formula with V = 1; (3) k*, at least 1, is within a factor
of two of the formula, as windows are chosen, in three quarters of the networks. `inconclusive` if
no half-life is four times another; `quick run only` if --steps, --seeds, --features, --length,
--sequences or --draws is below its default.

    python experiments/forgetting_rate.py
    python experiments/forgetting_rate.py --cells lru ./mine.py:MyCell --delays 1 3 9
"""

import dataclasses
import functools

import rnnjax
from rnnjax import diagnostics, experiment, online, tasks, training
from rnnjax.command_line import at_least, finite, progress, rising
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, grids, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

AVERAGED, MOST = (1, 100, 10_000), 10_000  # draws M
NEAR, SHARE, RANGE = 2, 0.75, 4  # of the verdict


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Compare the bias of truncated back-propagation with the variance of UORO.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute on two CPU cores.
    """

    delays: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Delays d of the networks' tasks, in rising order."""
    length: int = 64
    """Steps T of a sequence."""
    features: int = 16
    steps: int = 400
    learning_rate: float = 1e-2
    """Step size of the Adam optimiser, from which it falls to zero like a cosine."""
    seeds: int = 2
    sequences: int = 16
    """Held-out sequences on which a network's gradients are compared."""
    draws: int = 32
    """Gradients that UORO draws for each of them."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "sequences", "draws")
        finite(self, "delays", above=0)
        rising(self, "delays")
        self.make_tasks()

    def make_tasks(self):
        make = functools.partial(experiment.make_task, {"recall": tasks.DelayedRecall}, "recall")
        return [make(length=self.length, delay=delay) for delay in self.delays]

    def sample(self, key, delay, size):
        """Draw a batch of the task with this delay, a traced number."""
        draw = [functools.partial(task.sample, batch_size=size) for task in self.make_tasks()]
        return jax.lax.switch(jnp.argmax(jnp.array(self.delays) == delay), draw, key)


def make_train_step(config, cell, task):
    import optax

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))

    def train_step(state, key):
        batch = config.sample(key, state.settings["delay"], config.batch_size)

        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step, optimizer


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
@jax.default_matmul_precision("float32")
def compare(config, cell, task, params, delay, key):
    """Return a network's half-life, V, squared errors of windows k = 0 .. T - 1, and its loss."""
    keys = jax.random.split(key, config.sequences + 1)
    batch = config.sample(keys[0], delay, config.sequences)
    targets = batch.targets[-1]

    def loss(y, target):
        return jnp.sum((y @ params.kernel + params.bias - target) ** 2)

    def of_sequence(xs, target, key):
        def at_end(ys):
            return loss(ys[-1], target)

        def squared_error(key):
            where = cell, params.cell, xs, lambda y, t: (t == len(xs) - 1) * loss(y, target)
            drawn, _ = online.gradient(online.UORO(), *where, key=key)
            off = jax.tree.leaves(jax.tree.map(jnp.subtract, drawn, exact))
            return sum(jnp.sum(jnp.abs(g) ** 2) for g in off)

        exact = jax.grad(lambda own: at_end(rnnjax.unroll(cell, own, xs)[1]))(params.cell)
        missed = diagnostics.truncation_errors(cell, params.cell, xs, at_end)
        keys = jax.random.split(key, config.draws)
        return missed**2, jnp.mean(jax.lax.map(squared_error, keys))

    squares = jax.vmap(of_sequence, (1, 0, 0))(batch.inputs, targets, keys[1:])
    missed, variance = (jnp.mean(a, axis=0) / jnp.mean(squares[0][:, 0]) for a in squares)
    where = cell, params.cell, batch.inputs, lambda ys: loss(ys[-1], targets)
    found = {"loss": task.loss(readout.apply(cell, params, batch.inputs), batch)}
    found["half_life"] = diagnostics.gradient_profile(*where).half_life()
    return found | {"variance": variance, "missed": missed}


def describe(loss, half_life, variance, missed):
    """Return k* for every M, and what the formula says of it with V and with 1, all at least 1."""
    v = max(float(variance), 1e-9)  # a single unit that remembers nothing has none
    entry = {"loss": loss, "half_life": half_life, "variance": v, "first_error": missed[1] ** 0.5}
    entry |= {f"k_{m}": 1 + np.argmax(np.append(missed[1:], 0) <= v / m) for m in AVERAGED}
    formula = (("formula", v), ("bound", 1.0))
    entry |= {name: max(1, half_life / 2 * np.log2(MOST / of)) for name, of in formula}
    return {name: np.asarray(number).item() for name, number in entry.items()}


def measure(config, run):
    task, cells, tables = config.make_tasks()[0], {}, {"errors": [], "networks": []}
    members = training.grid(delay=config.delays, seed=config.members)
    for full_name in config.cells:
        name, cell, networks, errors = short_name(full_name), config.make_cell(full_name), [], {}
        step, optimizer = make_train_step(config, cell, task)
        start = functools.partial(grids.start, cell, task, optimizer)
        trained = grids.train(config, run, members, start, step, lambda key: key, cell=name)
        places = list(zip(members["delay"].tolist(), members["seed"].tolist(), strict=True))
        for i, (delay, seed) in enumerate(progress(places, f"gradients, {name}")):
            key = jax.random.fold_in(jax.random.key(seed), 1)  # of sequences never trained on
            where = config, cell, task, experiment.member(trained.state.params, i), delay, key
            found = run.cached(f"{name} {delay} {seed}", compare, *where)
            networks.append({"delay": delay, "seed": seed, **describe(**found)})
            errors.setdefault(f"truncated, d = {delay}", []).append(found["missed"][1:] ** 0.5)
        cells[name] = networks
        experiment.add_windows(tables, name, networks, errors, AVERAGED)
        run.write_tables(tables)
    return {"chance": task.chance, "cells": cells}


def verdict(config, summary):
    conditions, lives = {}, [n["half_life"] for of in summary["cells"].values() for n in of]
    for cell, of in summary["cells"].items():
        near = [1 / NEAR <= n[f"k_{MOST}"] / n["formula"] <= NEAR for n in of]
        less = all(n["first_error"] < n["variance"] ** 0.5 for n in of)
        short = all(n[f"k_{MOST}"] <= n["bound"] for n in of)
        conditions |= {
            f"{cell}: one step of truncation errs less than one draw": less,
            f"{cell}: k* is at most {np.log2(MOST) / 2:.1f} half-lives": short,
            f"{cell}: k* is near h/2 log2(M / V)": np.mean(near) >= SHARE,
        }
    judged = Verdict.judge(conditions)
    if not max(lives) >= RANGE * min(lives):
        judged = Verdict.inconclusive("half-lives differ by less than a factor of 4", conditions)
    few = "steps", "seeds", "features", "length", "sequences", "draws"
    return judged.unless_quick(config, *few)


def show(summary):
    rows = [[cell, *n.values()] for cell, of in summary["cells"].items() for n in of]
    experiment.print_table(["cell", *next(iter(summary["cells"].values()))[0]], rows)


def draw(run):
    experiment.draw_windows(run, f"k_{MOST}", MOST)


run = experiment.Experiment("forgetting_rate", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
