"""Is a recurrent network chaotic, at its edge, or contracting? Lyapunov exponents tell.

Claim: the random network x' = W tanh(x), W ~ N(0, g^2/N), contracts for g < 1, where its exponents
are ln |mu_i|, mu_i the eigenvalues of W (x dies, so that J = W), and is chaotic for g > 1, with a
first exponent near mean-field theory's and a spectrum that depends on i/N alone (Sompolinsky,
Crisanti, Sommers 1988, "Chaos in random neural networks"; Engelken, Wolf, Abbott 2023, "Lyapunov
spectra of chaotic recurrent neural networks"). Mean-field theory takes x for Gaussian:

    Delta = g^2 E[tanh^2(sqrt(Delta) z)],   lambda_1 = ln(g^2 E[(1 - tanh^2(sqrt(Delta) z))^2]) / 2

with z ~ N(0, 1). Finite networks lie below it; small ones may settle into a cycle. Elman, LSTM and
GRU networks move while they learn a task of long memory: their exponents are measured along
training, driven by the task's inputs.

Verdict: `reproduced` if, for every gain below 1, the measured first exponent of each seed is within
3 standard errors or 0.002 of ln |mu_1|; for every gain from 1.5 on its mean over seeds is positive
and no further from mean-field than 0.04; and the spectra of the two largest networks are never
further apart than 0.05 at equal i/N, in their upper half. Else `not reproduced`.

The file is longer than 200 lines because it is two experiments: random networks with a theory, and
networks that learn.

    python experiments/lyapunov.py
    python experiments/lyapunov.py --gains 0.9 1.1 --units 100 --updates 1000
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, experiment, tasks, training
from rnnjax.command_line import ArgumentError, at_least, finite, positive, progress
from rnnjax.experiment import CellOptions, SeedOptions, Verdict, readout
from rnnjax.networks import short_name

TASKS = {"adding": tasks.AddingArjovsky2016}


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

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "steps", "updates", "snapshots", "leading")
        at_least(2, self, "units")
        at_least(0, self, "transient")
        positive(self, "spectrum_gain", "learning_rate")
        finite(self, "gains", above=0)
        if len(self.sizes) < 2 or not all(n >= 2 for n in self.sizes):
            raise ArgumentError(f"--sizes must be two or more, each at least 2, got {self.sizes}")
        if self.leading > self.features:
            raise ArgumentError(f"--leading must be at most --features, got {self.leading}")
        self.make_task()

    def make_task(self):
        return experiment.make_task(TASKS, "adding", length=self.length)


class RandomCarry(NamedTuple):
    x: Any  # [*batch, N]


@dataclasses.dataclass(frozen=True)
class RandomNetwork(rnnjax.Cell):
    """x' = W tanh(x), which takes no input; the parameters are W^T `[N, N]` at gain 1."""

    features: int

    def init(self, key: Any, input_size: int) -> Any:
        del input_size
        shape = self.features, self.features
        return jax.random.normal(key, shape) / math.sqrt(self.features)

    def initial_carry(self, batch_shape: Sequence[int]) -> RandomCarry:
        return RandomCarry(jnp.ones((*batch_shape, self.features)))

    def project(self, ready: Any, x: Any) -> Any:
        del ready
        return x[..., :0]

    def step(self, ready: Any, carry: RandomCarry, u: Any) -> RandomCarry:
        del u
        return RandomCarry(jnp.tanh(carry.x) @ ready)

    def output(self, carry: RandomCarry) -> Any:
        return carry.x


@jax.enable_x64(True)
def random_spectra(config, size, gain, num):
    """Return exponents and errors `[S, num]`, and ln |mu_1| `[S]` of the same networks, as radius.

    In float64: where tanh saturates, single steps shrink directions by more than float32 resolves.
    """
    cell = RandomNetwork(size)
    total = config.transient + config.steps

    def measure(key):
        w_key, x_key = jax.random.split(key)
        start = RandomCarry(jax.random.normal(x_key, (size,)))
        found = diagnostics.lyapunov_spectrum(
            cell,
            gain * cell.init(w_key, 0),
            jnp.zeros((total, 1)),
            num,
            transient=config.transient,
            initial_carry=start,
        )
        return found.exponents, found.standard_error

    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    exponents, error = map(np.asarray, training.over_population(measure)(keys))
    weights = [np.asarray(cell.init(jax.random.split(key)[0], 0)) for key in keys]
    radius = [np.abs(np.linalg.eigvals(w.astype(float))).max() for w in weights]
    return {"exponents": exponents, "errors": error, "radius": np.log(gain * np.array(radius))}


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

    cell, task = config.make_cell(name), config.make_task()
    name, size = short_name(name), cell.output_size
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))

    def start(key):
        cell_key, head_key, data_key = jax.random.split(key, 3)
        kernel = jax.random.normal(head_key, (size, 1)) / math.sqrt(size)
        params = readout.Readout(cell.init(cell_key, task.input_size), kernel, jnp.zeros(1))
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key)

    def measure(params, inputs):
        found = diagnostics.lyapunov_spectrum(
            cell, params.cell, inputs, config.leading, transient=config.length
        )
        return found.exponents.mean(0)  # over sequences

    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    state = training.over_population(start)(keys)
    # The task's inputs end to end, so that the exponents are those of a long run.
    batch = jax.vmap(lambda key: task.sample(jax.random.fold_in(key, 1), 8 * 20).inputs)(keys)
    inputs = batch.reshape(config.seeds, config.length, 20, 8, -1).swapaxes(1, 2)
    inputs = inputs.reshape(config.seeds, 20 * config.length, 8, -1)
    exponents = training.over_population(measure)
    resumable = training.ResumableTraining(
        run,
        {"cell": name},
        config.members,
        record_every=10,
        checkpoint_every=config.checkpoint_every,
        keep=config.keep,
    )
    trained = resumable.train_on_samples(
        make_train_step(cell, task, optimizer),
        state,
        functools.partial(task.sample, batch_size=32),
        steps=config.updates,
        chunk_size=-(-config.updates // config.snapshots),
        observe=lambda state: exponents(state.params, inputs),
    )
    history = {0: trained.before} | {chunk.step: chunk.observed for chunk in trained.chunks}
    losses = trained.chunks[-1].metrics["loss"][-10:]
    loss = float(np.median(losses[:, np.isfinite(losses).all(0)]))
    rows = [
        {"cell": name, "exponent": i + 1, "update": step, **diagnostics.quartiles(values[:, i])}
        for i in range(config.leading)
        for step, values in history.items()
    ]
    first, last = (history[step][:, 0] for step in (0, config.updates))
    return rows, {
        "loss": loss,
        "first_exponent_init": float(np.median(first)),
        "first_exponent_trained": float(np.median(last)),
        "time_constant_trained": float(diagnostics.time_constant(np.median(last))),
    }


def measure(config, run):
    rows, by_gain = [], {}
    for gain in progress(config.gains, "gains"):
        found = run.cached(f"gain {gain}", random_spectra, config, config.units, gain, 1)
        values, error, contracting = found["exponents"][:, 0], found["errors"], found["radius"]
        theory = (
            diagnostics.mean_field_exponent(gain) if gain > 1 else float(np.median(contracting))
        )
        rows.append({"gain": gain, **diagnostics.quartiles(values), "theory": theory})
        by_gain[str(gain)] = {
            "mean": float(values.mean()),
            "spread": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
            "theory": theory,
            "of_seeds": values.tolist(),
            "standard_error_of_seeds": error[:, 0].tolist(),
            "log_spectral_radius_of_seeds": contracting.tolist(),
        }
    run.write_table("first_exponent", rows)

    rows = []
    for size in progress(config.sizes, "spectra"):
        drawn = config, size, config.spectrum_gain, None
        exponents = run.cached(f"size {size}", random_spectra, *drawn)["exponents"]
        place = (np.arange(size) + 0.5) / size
        rows.append({"size": size, "place": place, **diagnostics.quartiles(exponents.T)})
    run.write_table("spectra", rows)
    largest, second = sorted(rows, key=lambda row: -row["size"])[:2]
    same = np.interp(second["place"], largest["place"], largest["median"])
    distance = float(np.abs(same - second["median"])[: len(same) // 2].max())

    tables, cells = collections.defaultdict(list), {}
    for name in config.cells:
        rows, cells[short_name(name)] = train(config, name, run)
        tables["training"] += rows
        run.write_table("training", tables["training"])
    return {"gains": by_gain, "distance_of_spectra": distance, "cells": cells}


def verdict(config, summary):
    conditions = {}
    for gain, entry in ((float(g), entry) for g, entry in summary["gains"].items()):
        if gain < 1:
            pairs = zip(entry["of_seeds"], entry["log_spectral_radius_of_seeds"], strict=True)
            errors = np.abs([measured - theory for measured, theory in pairs])
            allowed = np.maximum(3 * np.array(entry["standard_error_of_seeds"]), 0.002)
            conditions[f"g = {gain:g}: the first exponent is ln |mu_1|"] = (errors <= allowed).all()
        if gain >= 1.5:
            near = entry["mean"] > 0 and abs(entry["mean"] - entry["theory"]) < 0.04
            conditions[f"g = {gain:g}: the first exponent is mean-field theory's"] = near
    same = summary["distance_of_spectra"] <= 0.05
    conditions["the spectra of the two largest networks agree in their upper half"] = same
    return Verdict.judge(conditions)


def show(summary):
    gains = summary["gains"].items()
    rows = [[gain, *(entry[key] for key in ("mean", "spread", "theory"))] for gain, entry in gains]
    experiment.print_table(["gain", "lambda_1", "over seeds", "theory"], rows)
    print(f"Spectra of the two largest networks differ by {summary['distance_of_spectra']:.3f}")
    for cell, entry in summary["cells"].items():
        print(
            f"{cell:6} lambda_1 {entry['first_exponent_init']:.4f} -> "
            f"{entry['first_exponent_trained']:.4f} in training, loss {entry['loss']:.4g}"
        )


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table = run.read_table("first_exponent")
    table["series"] = np.full(len(table["gain"]), "measured (dashed: theory)")
    figure = figures.curves(
        table, "gain", "series", xlabel="gain g", ylabel="first Lyapunov exponent, nats per step"
    )
    figure.axes[0].axhline(0, color="black", linewidth=0.8)
    run.save_figure("first_exponent", figure)

    table = run.read_table("spectra")
    names: Any = {size: f"N = {size:g}" for size in table["size"].tolist()}
    figure = figures.curves(
        table,
        "place",
        "size",
        names=names,
        xlabel="i / N",
        ylabel="Lyapunov exponent, nats per step",
    )
    figure.axes[0].axhline(0, color="black", linewidth=0.8)
    run.save_figure("spectra", figure)

    table = run.read_table("training")
    names = {i: f"$\\lambda_{{{i:.0f}}}$" for i in table["exponent"].tolist()}
    figure = figures.curves(
        table,
        "update",
        "exponent",
        panel="cell",
        names=names,
        xlabel="training update",
        ylabel="Lyapunov exponent, nats per step",
    )
    for ax in figure.axes:
        ax.axhline(0, color="black", linewidth=0.8)
    run.save_figure("training", figure)


run = experiment.Experiment("lyapunov", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
