"""Is a recurrent network chaotic, at its edge, or contracting? Lyapunov exponents tell.

Claim: the random network x' = W tanh(x), W ~ N(0, g^2/N), contracts for g < 1, where its exponents
are ln |mu_i|, mu_i the eigenvalues of W (x dies, so that J = W), and is chaotic for g > 1, with a
first exponent near mean-field theory's and a spectrum that depends on i/N alone (Sompolinsky,
Crisanti, Sommers 1988, "Chaos in random neural networks"; Engelken, Wolf, Abbott 2023, "Lyapunov
spectra of chaotic recurrent neural networks"). Finite networks lie below the theory; small ones may
settle into a cycle. Elman, LSTM and GRU networks move while they learn the adding problem.

Verdict: `reproduced` if, for every gain below 1, the measured first exponent of each seed is within
3 standard errors or 0.002 of ln |mu_1|; for every gain from 1.5 on its mean over seeds is positive
and no further from mean-field than 0.04; and the spectra of the two largest networks are never
further apart than 0.05 at equal i/N, in their upper half. Else `not reproduced`; `quick run only`
if --units, --steps, --transient, --seeds or the second largest of --sizes is below its default.

    python experiments/lyapunov.py
    python experiments/lyapunov.py --gains 0.9 1.1 --units 100 --updates 1000
"""

import dataclasses
import functools
import math

from rnnjax import diagnostics, experiment, tasks, training
from rnnjax.command_line import ArgumentError, at_least, finite, positive, progress
from rnnjax.experiment import CellOptions, SeedOptions, Verdict, random_networks, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Measure Lyapunov exponents of random networks, and of trained ones while they learn.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes under two minutes on two CPU cores.
    """

    gains: tuple[float, ...] = (0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 2.0, 2.5, 3.0)
    """Gains g of the random networks."""
    units: int = 200
    """N, of the random networks."""
    steps: int = 1500
    """Steps that exponents of random networks are averaged over."""
    transient: int = 300
    """Steps before them, in which the state and Q settle."""
    sizes: tuple[int, ...] = (50, 100, 200)
    """Sizes N of the networks whose whole spectra are compared."""
    spectrum_gain: float = 3.0
    """Their gain g."""
    length: int = 50
    """Length T of the adding problem that the cells are trained on."""
    features: int = 32
    updates: int = 600
    """Training updates."""
    learning_rate: float = 5e-3
    """Step size of the Adam optimiser."""
    snapshots: int = 8
    """How often exponents are measured during training."""
    leading: int = 4
    """How many exponents are measured during training."""
    record_every = 10  # updates between entries of metrics.jsonl

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "steps", "updates", "snapshots", "leading")
        at_least(2, self, "units", "length")
        at_least(0, self, "transient")
        positive(self, "spectrum_gain", "learning_rate")
        finite(self, "gains", above=0)
        if len(self.sizes) < 2 or not all(n >= 2 for n in self.sizes):
            raise ArgumentError(f"--sizes must be two or more, each at least 2, got {self.sizes}")
        if self.leading > self.features:
            raise ArgumentError(f"--leading must be at most --features, got {self.leading}")


def make_train_step(cell, task, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def train(config, name, run):
    """Train all seeds of a cell; return rows of exponents along training, and the last loss."""
    import optax

    cell, task = config.make_cell(name), tasks.AddingArjovsky2016(config.length)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))

    def start(key):
        cell_key, head_key, data_key = jax.random.split(key, 3)
        kernel = jax.random.normal(head_key, (cell.output_size, 1)) / math.sqrt(cell.output_size)
        params = readout.Readout(cell.init(cell_key, task.input_size), kernel, jnp.zeros(1))
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key)

    def exponents(params, inputs):
        options = {"num": config.leading, "transient": config.length}  # the mean is over sequences
        return diagnostics.lyapunov_spectrum(cell, params.cell, inputs, **options).exponents.mean(0)

    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    inputs = experiment.end_to_end_inputs(task, keys, examples=8, sequences=20)
    measure, state = map(training.over_population, (exponents, start))
    sample, name = functools.partial(task.sample, batch_size=32), short_name(name)
    step = make_train_step(cell, task, optimizer)
    given: dict = {"sample": sample, "steps": config.updates, "cell": name}
    trained = experiment.train_and_probe(config, run, step, state(keys), measure, inputs, **given)
    history, losses = trained.observed(), trained.chunks[-1].metrics["loss"][-10:]
    rows = [
        {"cell": name, "exponent": i + 1, "update": update, **diagnostics.quartiles(values[:, i])}
        for i in range(config.leading)
        for update, values in history.items()
    ]
    first, last = (np.median(history[step][:, 0]) for step in (0, config.updates))
    return rows, {
        "loss": float(np.median(losses[:, np.isfinite(losses).all(0)])),
        "first_exponent_init": float(first),
        "first_exponent_trained": float(last),
        "time_constant_trained": float(diagnostics.time_constant(last)),
    }


def measure(config, run):
    steps = {"transient": config.transient, "steps": config.steps}
    spectra = functools.partial(random_networks.spectra, config.members, **steps)
    rows, by_gain = [], {}
    for gain in progress(config.gains, "gains"):
        found = run.cached(f"gain {gain}", spectra, config.units, gain, 1)
        row, by_gain[str(gain)] = random_networks.describe_first(gain, found)
        rows.append(row)
    run.write_table("first_exponent", rows)
    rows = []
    for size in progress(config.sizes, "spectra"):
        found = run.cached(f"size {size}", spectra, size, config.spectrum_gain, None)
        columns = {"size": size, "place": (np.arange(size) + 0.5) / size}
        rows.append(columns | diagnostics.quartiles(found["exponents"].T))
    run.write_table("spectra", rows)
    distance = random_networks.largest_distance(rows)
    rows, cells = [], {}
    for name in config.cells:
        more, cells[short_name(name)] = train(config, name, run)
        rows += more
        run.write_table("training", rows)
    return {"gains": by_gain, "distance_of_spectra": distance, "cells": cells}


def verdict(config, summary):
    conditions = {}
    for gain, entry in ((float(g), entry) for g, entry in summary["gains"].items()):
        if gain < 1:
            errors = np.abs(np.subtract(entry["of_seeds"], entry["log_spectral_radius_of_seeds"]))
            allowed = np.maximum(3 * np.array(entry["standard_error_of_seeds"]), 0.002)
            conditions[f"g = {gain:g}: the first exponent is ln |mu_1|"] = (errors <= allowed).all()
        if gain >= 1.5:
            near = entry["mean"] > 0 and abs(entry["mean"] - entry["theory"]) < 0.04
            conditions[f"g = {gain:g}: the first exponent is mean-field theory's"] = near
    same = summary["distance_of_spectra"] <= 0.05
    conditions["the spectra of the two largest networks agree in their upper half"] = same
    names, second = ("units", "steps", "transient", "seeds"), sorted(config.sizes)[-2]
    default = sorted(Config.sizes)[-2]
    return Verdict.judge(conditions).unless_quick(config, *names, sizes=(second, default))


def show(summary):
    gains = summary["gains"].items()
    rows = [[gain, *(entry[key] for key in ("mean", "spread", "theory"))] for gain, entry in gains]
    experiment.print_table(["gain", "lambda_1", "over seeds", "theory"], rows)
    print(f"Spectra of the two largest networks differ by {summary['distance_of_spectra']:.3f}")
    for cell, entry in summary["cells"].items():
        first, last = entry["first_exponent_init"], entry["first_exponent_trained"]
        print(f"{cell:6} lambda_1 {first:.4f} -> {last:.4f} in training, loss {entry['loss']:.4g}")


def draw(run):
    table = run.read_table("first_exponent")
    table["series"] = np.full(len(table["gain"]), "measured (dashed: theory)")
    options = {"level": 0, "xlabel": "gain g", "ylabel": "first Lyapunov exponent, nats per step"}
    experiment.draw_curves(run, "first_exponent", "gain", "series", table=table, **options)
    options = {"level": 0, "ylabel": "Lyapunov exponent, nats per step"}
    options |= {"label_format": "N = {:g}", "xlabel": "i / N"}
    experiment.draw_curves(run, "spectra", "place", "size", **options)
    options |= {"label_format": "$\\lambda_{{{:.0f}}}$", "xlabel": "training update"}
    experiment.draw_curves(run, "training", "update", "exponent", panel="cell", **options)


run = experiment.Experiment("lyapunov", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
