"""What gates, weights and gradients do while a network learns to remember.

Claim: an LSTM or a GRU learns a long memory by opening the gate that keeps its state (the LSTM's
f, the GRU's z), if only in a few units: the longest half-life that the mean of a unit's gate
implies, ln 0.5 / ln f, grows in training. (Gates: Gers, Schmidhuber, Cummins 2000, "Learning to
forget". Saturation: Karpathy, Johnson, Fei-Fei 2016, "Visualizing and understanding recurrent
networks", section 4.2. Half-lives as time constants: Tallec & Ollivier 2018, "Can recurrent neural
networks warp time?") Whether the longest-lived quarter of the units follows is measured too: the
LSTM's, in the default run, by little if at all.

At every step of training: saturation of gates, norms of adjoints dL/ds_{T-k} at a few lags k, and
update-to-weight ratios. At snapshots, on sequences never trained on: every unit's mean gate over
all steps and sequences, and the weights and their gradients: histograms, heat maps (first seed),
eigenvalues (first seed) and singular values (medians over seeds) of the recurrent blocks, and how
many entries are NaN, infinite or dead. Tasks are scored at the last step only, so that short paths
do not hide the long ones.

Verdict: the growth of a seed is the half-life of its longest-lived unit after training over that
before. `reproduced` if for every gated cell (LSTM, GRU) the median growth over seeds is above 1
with the whole of its 95 % bootstrap interval; else `not reproduced`. `inconclusive` if for a gated
cell fewer than three quarters of the seeds brought the loss below half of chance.

The file is longer than 200 lines because it follows three things at once: gates at every step, and
half-lives, weights and gradients at snapshots.

    python experiments/gates.py
    python experiments/gates.py --task temporal_order --cells lstm --steps 2000
"""

import collections
import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.command_line import at_least, progress
from rnnjax.diagnostics import memory
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout, weight_tables
from rnnjax.networks import short_name

KEEPS = {"lstm": "f", "gru": "z"}  # the gate that multiplies the state
TASKS = {
    "adding_arjovsky2016": tasks.AddingArjovsky2016,
    "temporal_order": tasks.TemporalOrder,
}
LIVE = {  # metrics of every step, by the start of their names, and tables
    "loss": "learning_curves",
    "gate_": "saturation",
    "update_ratio_": "update_ratios",
    "adjoint_norm_lag_": "adjoint_norms",
}
SIDES = {"low": "below 0.1", "high": "above 0.9"}
PHASES = {"before": "before training", "after": "after training"}
QUANTILES = {
    0.125: "shortest-lived quarter (median)",
    0.5: "all units (median)",
    0.875: "longest-lived quarter (median)",
    1.0: "longest-lived unit",
}
LONGEST = {"longest_quarter": 0.875, "longest_unit": 1.0}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, TrainingOptions):
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
        self.make_task()

    def make_task(self):
        return experiment.make_task(TASKS, self.task, length=self.length)


def make_train_step(cell, task, optimizer):
    def train_step(state, batch):
        def loss_fn(params, probe):
            _, hidden, carries = rnnjax.unroll(
                cell, params.cell, batch.inputs, norm_probe=probe, return_carries=True
            )
            return task.loss(hidden @ params.kernel + params.bias, batch), carries

        probe = jnp.zeros(batch.inputs.shape[:2])
        (loss, carries), (gradient, adjoint_norms) = jax.value_and_grad(
            loss_fn, (0, 1), has_aux=True
        )(state.params, probe)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        metrics = {"loss": loss, "grad_norm": norm}
        metrics |= diagnostics.adjoint_norms(adjoint_norms)
        metrics |= diagnostics.update_ratios(updates, state.params)
        metrics |= diagnostics.gate_saturation(cell, state.params.cell, batch.inputs, carries)
        params = jax.tree.map(jnp.add, state.params, updates)
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, metrics

    return train_step


class Snapshot(NamedTuple):
    """Of all seeds, `[S, ...]`, on the probe sequences."""

    weights: Any  # Readout
    gradient: Any  # Readout
    loss: Any
    gates: Any  # name -> diagnostics.GateStatistics


def make_snapshot(cell, task):
    def snapshot(params, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        values = diagnostics.gates(cell, params.cell, batch.inputs)
        statistics = {name: diagnostics.gate_statistics(value) for name, value in values.items()}
        return Snapshot(params, gradient, loss, statistics)

    mapped = training.over_population(snapshot)
    return lambda params, batch: jax.tree.map(np.asarray, mapped(params, batch))


def train(config, name, task, run, tables):
    """Train all seeds of a cell, add to the numbers behind the figures, and return its summary."""
    import optax

    cell, name = config.make_cell(name), short_name(name)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])

    def start(key):
        init_key, data_key = jax.random.split(key)
        params = readout.init(cell, task, init_key)
        probe = task.sample(jax.random.fold_in(key, 1), 32)
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key), probe

    state, probe = training.over_population(start)(keys)
    look = make_snapshot(cell, task)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    trained = resumable.train_on_samples(
        make_train_step(cell, task, optimizer),
        state,
        functools.partial(task.sample, batch_size=config.batch_size),
        steps=config.steps,
        chunk_size=-(-config.steps // config.snapshots),
        observe=lambda state: look(state.params, probe),
    )
    history = {0: trained.before} | {chunk.step: chunk.observed for chunk in trained.chunks}
    for chunk in trained.chunks:
        record_live(tables, name, chunk)
    for step, snapshot in history.items():
        record_snapshot(tables, name, cell, step, snapshot)
    record_ends(tables, name, cell, {"before": history[0], "after": history[config.steps]})
    return summarise(name, task, history)


def record_live(tables, cell, chunk, windows=4):
    """Add the scalars of a chunk, averaged over parts of it, to the tables.

    Of the members that have not stopped.
    """
    at = chunk.first_step - 1
    going = chunk.counts == chunk.step - at
    metrics = {name: values[:, going] for name, values in chunk.metrics.items()}
    for part in np.array_split(np.arange(chunk.step - at), min(windows, chunk.step - at)):
        means = {name: values[part].mean(0) for name, values in metrics.items()}  # [S]
        nearest = means["adjoint_norm_lag_1"]
        for name, values in means.items():
            for prefix, table in LIVE.items():
                if name.startswith(prefix) and not name.endswith("_mean"):
                    if table == "adjoint_norms":
                        values = np.divide(values, nearest, where=nearest > 0, out=nearest * np.nan)
                    row = {"cell": cell, "series": name[len(prefix) :], "step": at + part[-1] + 1}
                    tables[table].append(row | diagnostics.quartiles(values))


def lives(snapshot, name, quantile):
    """Return the half-life that a share of the units do not reach or just reach, `[S]`.

    At 0.875 that is the median of the longest-lived quarter.
    """
    half_lives = snapshot.gates[KEEPS[name]].half_life  # [S, H]
    return np.quantile(half_lives, quantile, axis=-1, method="inverted_cdf")


def record_snapshot(tables, name, cell, step, snapshot):
    """Add half-lives by quantile over units, and spectra of the recurrent blocks, to the tables."""
    if name in KEEPS:
        for quantile in QUANTILES:
            row = {"cell": name, "step": step, "quantile": quantile}
            values = diagnostics.quartiles(lives(snapshot, name, quantile))
            tables["half_lives"].append(row | values)
    weight_tables.record_spectra(tables, name, cell, step, snapshot.weights.cell)


def record_ends(tables, name, cell, ends):
    """Add histograms of gates, and of weights and gradients, and all their blocks, to the tables.

    Args:
        ends: snapshots by phase, before and after.
    """
    for phase, snapshot in ends.items():
        for gate, found in snapshot.gates.items():
            row = {"cell": name, "gate": gate, "phase": phase}
            row |= {"low": found.edges[0, :-1], "high": found.edges[0, 1:]}
            tables["gates"].append(row | diagnostics.quartiles(found.counts.T))
    for what in ("weights", "gradient"):
        by_phase = {phase: getattr(snapshot, what).cell for phase, snapshot in ends.items()}
        weight_tables.record_weights(tables, name, cell, what, by_phase)


def summarise(name, task, history):
    """Return what summary.json says of a cell."""
    first, *_, last = history.values()
    gradients = jax.tree.map(
        lambda *steps: np.stack(steps), *(s.gradient for s in history.values())
    )
    entry = {
        "loss_of_seeds": last.loss.tolist(),
        "final_loss": float(np.median(last.loss)),
        "chance": task.chance,
        "health": weight_tables.health(last.weights, gradients),
    }
    if name in KEEPS:
        for who, quantile in LONGEST.items():
            before, after = (lives(s, name, quantile).astype(float) for s in (first, last))
            growth = memory.confidence_interval(
                functools.partial(np.median, axis=-1), after / before
            )
            entry[who] = {
                "before": float(np.median(before)),
                "after": float(np.median(after)),
                "growth": {key: float(value) for key, value in growth._asdict().items()},
                "growth_of_seeds": (after / before).tolist(),
            }
        for gate, found in last.gates.items():
            entry[f"saturated_{gate}"] = float(np.median((found.low + found.high).mean(-1)))
    return entry


def verdict(config, summary):
    gated = {name: summary["cells"][name] for name in KEEPS if name in summary["cells"]}
    conditions = {
        f"{name}: the longest half-life of a unit grows": entry["longest_unit"]["growth"]["low"] > 1
        for name, entry in gated.items()
    }
    for name, entry in gated.items():
        if np.mean(np.array(entry["loss_of_seeds"]) < entry["chance"] / 2) < 0.75:
            return Verdict.inconclusive(f"too few seeds of {name} learn the task", conditions)
    return Verdict.judge(conditions, otherwise="no LSTM or GRU was watched")


def measure(config, run):
    task, tables, cells = config.make_task(), collections.defaultdict(list), {}
    for name in config.cells:
        cells[short_name(name)] = train(config, name, task, run, tables)
    for table, parts in tables.items():
        run.write_table(table, parts)
    return {"cells": cells}


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    cells = run.read_json("summary.json")["cells"]
    chance = next(iter(cells.values()))["chance"]
    figure = figures.learning_curves(run.read_table("learning_curves"), chance)
    run.save_figure("learning_curves", figure)
    plot = functools.partial(figures.curves, x="step", xlabel="training step")

    table = in_order(run.read_table("update_ratios"))
    names: Any = {"kernel": "kernel of the head", "bias": "bias of the head"}
    label = "norm of update / norm of weights"
    figure = plot(table, series="series", panel="cell", names=names, ylabel=label, log_y=True)
    run.save_figure("update_ratios", figure)

    table = in_order(run.read_table("adjoint_norms"))
    names = {lag: f"k = {lag:g}" for lag in table["series"].tolist()}
    label = "norm of the adjoint at lag k / at lag 1"
    figure = plot(table, series="series", panel="cell", names=names, ylabel=label, log_y=True)
    run.save_figure("adjoint_norms", figure)

    if (run.path / "half_lives.csv").exists():
        table, names = run.read_table("half_lives"), dict(QUANTILES)
        label = "half-life that the gate implies, steps"
        figure = plot(table, series="quantile", panel="cell", names=names, ylabel=label, log_y=True)
        run.save_figure("half_lives", figure)
    if (run.path / "gates.csv").exists():
        draw_gates(run, figures, plot)
    for cell in progress(cells, "figures of weights"):
        weight_tables.draw_weights(run, cell)


def draw_gates(run, figures, plot):
    gates, saturation = run.read_table("gates"), run.read_table("saturation")
    gate, side = np.char.partition(saturation["series"], "_").T[[0, 2]]
    saturation |= {"gate": gate, "series": side}
    for table in (gates, saturation):
        pairs = zip(table["cell"], table["gate"], strict=True)
        table["panel"] = np.array([f"{networks.label(cell)}, gate {gate}" for cell, gate in pairs])
    label = "share of units and sequences"
    figure = plot(saturation, series="series", panel="panel", names=SIDES, ylabel=label)
    run.save_figure("saturation", figure)
    label = "value of the gate"
    figure = figures.histograms(gates, "phase", panel="panel", names=PHASES, xlabel=label)
    run.save_figure("gates", figure)


def in_order(table):
    """Return a table of live metrics, which come in alphabetical order, sorted by series."""
    order = np.argsort(table["series"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def show(summary):
    print("Half-lives in steps, before -> after training (growth with 95 % interval)")
    print(f"{'cell':6}{'loss':>10}{'chance':>10}{'longest-lived quarter':>36}{'unit':>36}")
    for name, entry in summary["cells"].items():
        line = f"{name:6}{entry['final_loss']:10.4g}{entry['chance']:10.4g}"
        for found in (entry[who] for who in LONGEST if who in entry):
            growth = "{value:.3g} [{low:.3g}, {high:.3g}]".format(**found["growth"])
            change = f"{found['before']:.3g} -> {found['after']:.3g}"
            line += f"{f'{change}  ({growth})':>36}"
        print(line)
    for name, entry in summary["cells"].items():
        weight_tables.print_health(name, entry["health"])


run = experiment.Experiment("gates", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
