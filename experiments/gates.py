"""What gates, weights and gradients do while a network learns to remember.

Claim: an LSTM or a GRU learns a long memory by opening the gate that keeps its state (the LSTM's
f, the GRU's z), if only in a few units: the longest half-life that the mean of a unit's gate
implies, ln 0.5 / ln f, grows in training. (Gers, Schmidhuber, Cummins 2000; saturation: Karpathy,
Johnson, Fei-Fei 2016, section 4.2; half-lives as time constants: Tallec & Ollivier 2018.) The
longest-lived quarter of an LSTM's units follows by little, if at all.

Measured at every step: saturation of gates, norms of adjoints dL/ds_{T-k} at a few lags k, and
update-to-weight ratios. Measured at snapshots, on sequences never trained on: every unit's mean
gate over all steps and sequences; histograms, heat maps and spectra of weights and gradients; and
how many of their entries are NaN, infinite or dead. Tasks are scored at the last step only, so that
short paths do not hide the long ones.

Verdict: the growth of a seed is the half-life of its longest-lived unit after training over that
before. `reproduced` if for every gated cell (LSTM, GRU) the median growth over seeds is above 1
with the whole of its 95 % bootstrap interval; else `not reproduced`. `inconclusive` if for a gated
cell fewer than three quarters of the seeds brought the loss below half of chance; `quick run only`
if --steps, --seeds, --features or --length is below its default.

    python experiments/gates.py
    python experiments/gates.py --task temporal_order --cells lstm --steps 2000
"""

import collections
import dataclasses
import functools
from typing import Any, Literal

import rnnjax
from rnnjax import diagnostics, experiment, tasks, training
from rnnjax.command_line import at_least, progress
from rnnjax.experiment import Verdict, gate_tables, readout, weight_tables
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

KEEPS = {"lstm": "f", "gru": "z"}  # the gate that multiplies the state
TASKS = {"adding_arjovsky2016": tasks.AddingArjovsky2016, "temporal_order": tasks.TemporalOrder}
QUANTILES = {
    0.125: "shortest-lived quarter (median)",
    0.5: "all units (median)",
    0.875: "longest-lived quarter (median)",
    1.0: "longest-lived unit",
}
LONGEST = {"longest_quarter": 0.875, "longest_unit": 1.0}


@dataclasses.dataclass(frozen=True)
class Config(experiment.CellOptions, experiment.TrainingOptions):
    """Watch gates, weights and gradients of recurrent networks while they learn a task.

    Prints tables and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute on two CPU cores.
    """

    task: Literal[tuple(TASKS)] = "adding_arjovsky2016"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn."""
    length: int = 60
    """Sequence length T."""
    features: int = 32
    steps: int = 600
    learning_rate: float = 5e-3
    seeds: int = 8
    snapshots: int = 12
    """How often gates, weights and gradients are measured during training."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "snapshots")
        at_least(2, self, "length", "seeds")
        experiment.make_task(TASKS, self.task, length=self.length)


def make_train_step(cell, task, optimizer):
    def train_step(state, batch):
        def loss_fn(params, probe):
            options = {"norm_probe": probe, "return_carries": True}
            _, hidden, carries = rnnjax.unroll(cell, params.cell, batch.inputs, **options)
            return task.loss(hidden @ params.kernel + params.bias, batch), carries

        probe = jnp.zeros(batch.inputs.shape[:2])
        differentiate = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)
        (loss, carries), (gradient, adjoint_norms) = differentiate(state.params, probe)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        metrics = {"loss": loss, "grad_norm": norm} | diagnostics.adjoint_norms(adjoint_norms)
        metrics |= diagnostics.update_ratios(updates, state.params)
        metrics |= diagnostics.gate_saturation(cell, state.params.cell, batch.inputs, carries)
        params = jax.tree.map(jnp.add, state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, metrics

    return train_step


def snapshot(cell, task, params, probe):
    def loss_fn(params):
        return task.loss(readout.apply(cell, params, probe.inputs), probe)

    loss, gradient = jax.value_and_grad(loss_fn)(params)
    values = diagnostics.gates(cell, params.cell, probe.inputs)
    gates = {name: diagnostics.gate_statistics(value) for name, value in values.items()}
    return {"weights": params, "gradient": gradient, "loss": loss, "gates": gates}


def lives(observed, name):
    """Return the half-life `[S]` that a share of the units do not reach or just reach, by share."""
    half_life = observed["gates"][KEEPS[name]].half_life  # [S, H]
    found = np.quantile(half_life, [*QUANTILES], axis=-1, method="inverted_cdf")
    return dict(zip(QUANTILES, found, strict=True))


def record_half_lives(tables, name, history):
    """Add half-lives of units to the tables; return their growth, and the saturation of gates."""
    for step, observed in history.items():
        for quantile, found in lives(observed, name).items():
            row = {"cell": name, "step": step, "quantile": quantile}
            tables["half_lives"].append(row | diagnostics.quartiles(found))
    first, *_, last = history.values()
    before, after = lives(first, name), lives(last, name)
    grown = {who: gate_tables.growth(before[q], after[q]) for who, q in LONGEST.items()}
    return grown | gate_tables.saturation(last["gates"])


def measure(config, run):
    import optax

    task = experiment.make_task(TASKS, config.task, length=config.length)
    tables, cells = collections.defaultdict(list), {}
    draw_probe = training.over_population(lambda key: task.sample(jax.random.fold_in(key, 1), 32))
    probe = draw_probe(jnp.stack([jax.random.key(seed) for seed in config.members]))
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    for full_name in config.cells:
        cell, name = config.make_cell(full_name), short_name(full_name)
        state = readout.start(config, optimizer, cell, task)
        step = make_train_step(cell, task, optimizer)
        look = training.over_population(functools.partial(snapshot, cell, task))
        trained = experiment.train_and_probe(
            config, run, step, state, look, probe, sample=sample, cell=name
        )
        gate_tables.record(tables, name, trained)
        last = trained.chunks[-1].observed
        cells[name] = {
            "loss_of_seeds": last["loss"].tolist(),
            "final_loss": float(np.median(last["loss"])),
            "chance": task.chance,
            "health": weight_tables.record(tables, name, cell, trained),
            **(record_half_lives(tables, name, trained.observed()) if name in KEEPS else {}),
        }
    run.write_tables(tables)
    return {"cells": cells}


def verdict(config, summary):
    gated = {name: summary["cells"][name] for name in KEEPS if name in summary["cells"]}
    if not gated:
        return Verdict.inconclusive("no LSTM or GRU was watched")
    conditions = {
        f"{name}: the longest half-life of a unit grows": entry["longest_unit"]["growth"]["low"] > 1
        for name, entry in gated.items()
    }
    judged = Verdict.judge(conditions)
    for name, entry in gated.items():
        if np.mean(np.array(entry["loss_of_seeds"]) < entry["chance"] / 2) < 0.75:
            judged = Verdict.inconclusive(f"too few seeds of {name} learn the task", conditions)
    return judged.unless_quick(config, "steps", "seeds", "features", "length")


def draw(run):
    """Draw the figures of a run from its tables."""
    cells = run.read_json("summary.json")["cells"]
    gate_tables.draw(run, next(iter(cells.values()))["chance"])
    curves: Any = {"x": "step", "series": "quantile", "panel": "cell", "names": QUANTILES}
    labels: Any = {"xlabel": "training step", "ylabel": "half-life that the gate implies, steps"}
    experiment.draw_curves(run, "half_lives", **curves, **labels, log_y=True)
    for cell in progress(cells, "figures of weights"):
        weight_tables.draw_weights(run, cell)


def show(summary):
    print("Half-lives in steps, before -> after training (growth with 95 % interval)")
    rows = []
    for name, entry in summary["cells"].items():
        changes = [gate_tables.growth_text(entry.get(who)) for who in LONGEST]
        rows.append([name, entry["final_loss"], entry["chance"], *changes])
    experiment.print_table(["cell", "loss", "chance", "longest-lived quarter", "unit"], rows)
    for name, entry in summary["cells"].items():
        weight_tables.print_health(name, entry["health"])


run = experiment.Experiment("gates", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
