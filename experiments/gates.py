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
before. `reproduced` if for every gated cell the median growth over seeds is above 1 with the whole
of its 95 % bootstrap interval; else `not reproduced`. `inconclusive` if for a gated cell fewer than
three quarters of the seeds brought the loss below half of chance.

    python experiments/gates.py
    python experiments/gates.py --task temporal_order --cells lstm --steps 2000
"""

import collections
import dataclasses
import functools
import textwrap
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, tasks, training
from rnnjax.command_line import ArgumentError, at_least, main, positive, progress
from rnnjax.diagnostics import memory, weights
from rnnjax.experiment import RunOptions, in_run

CELLS = {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}
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
WHAT = {"weights": ("weights", "weight"), "gradient": ("gradient", "|gradient|")}
PHASES = {"before": "before training", "after": "after training"}
QUANTILES = {
    0.125: "shortest-lived quarter (median)",
    0.5: "all units (median)",
    0.875: "longest-lived quarter (median)",
    1.0: "longest-lived unit",
}
LONGEST = {"longest_quarter": 0.875, "longest_unit": 1.0}
TITLES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Watch gates, weights and gradients of Elman, LSTM and GRU networks while they learn a task.

    Prints tables and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute on two CPU cores.
    """

    task: Literal[tuple(TASKS)] = "adding_arjovsky2016"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn."""
    cells: tuple[Literal[tuple(CELLS)], ...] = tuple(CELLS)  # pyright: ignore
    """Which cells to watch."""
    length: int = 60
    """Sequence length T."""
    features: int = 32
    """Hidden units of each cell."""
    steps: int = 600
    """Training updates."""
    batch_size: int = 32
    """Sequences in an update."""
    learning_rate: float = 5e-3
    """Of Adam."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    seeds: int = 8
    """Networks trained for each cell, all in one program."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    record_every: int = 10
    """Updates between two entries of metrics.jsonl."""
    snapshots: int = 12
    """How often gates, weights and gradients are looked at during training."""

    def __post_init__(self):
        at_least(1, self, "features", "steps", "batch_size", "record_every", "snapshots")
        at_least(2, self, "length", "seeds")
        at_least(0, self, "seed")
        positive(self, "learning_rate", "clip")
        if not self.cells or len(set(self.cells)) < len(self.cells):
            raise ArgumentError(f"--cells must name some of {', '.join(CELLS)}, each once")
        self.make_task()

    def make_task(self):
        try:
            return TASKS[self.task](length=self.length)
        except ValueError as error:
            raise ArgumentError(f"--{error}") from None


class Model(NamedTuple):
    """Parameters: a cell's, and those of a linear head y = h W + b."""

    cell: Any
    kernel: Any
    bias: Any


def init(cell, task, key):
    cell_key, head_key = jax.random.split(key)
    kernel = rnnjax.cells.initializers.Gaussian()(head_key, (cell.features, task.output_size))
    return Model(cell.init(cell_key, task.input_size), kernel, jnp.zeros(task.output_size))


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

    weights: Any  # Model
    gradient: Any  # Model
    loss: Any
    gates: Any  # name -> diagnostics.GateStatistics


def make_snapshot(cell, task):
    def snapshot(params, batch):
        def loss_fn(params):
            _, hidden = rnnjax.unroll(cell, params.cell, batch.inputs)
            return task.loss(hidden @ params.kernel + params.bias, batch)

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        values = diagnostics.gates(cell, params.cell, batch.inputs)
        statistics = {name: diagnostics.gate_statistics(value) for name, value in values.items()}
        return Snapshot(params, gradient, loss, statistics)

    mapped = training.over_population(snapshot)
    return lambda params, batch: jax.tree.map(np.asarray, mapped(params, batch))


def train(config, name, task, run, tables):
    """Train all seeds of a cell, add to the numbers behind the figures, and return its summary."""
    import optax

    cell = CELLS[name](config.features)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    seeds = list(range(config.seed, config.seed + config.seeds))
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])

    def start(key):
        init_key, data_key = jax.random.split(key)
        params = init(cell, task, init_key)
        probe = task.sample(jax.random.fold_in(key, 1), 32)
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key), probe

    state, probe = training.over_population(start)(keys)
    look = make_snapshot(cell, task)
    trained = training.ResumableTraining.from_config(
        config, run, seeds, cell=name
    ).train_on_samples(
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
    for gate, spectrum in weights.block_spectra(cell, snapshot.weights.cell).items():
        place = {"cell": name, "gate": gate, "step": step}
        first = spectrum.eigenvalues[0]
        tables["eigenvalues"].append({**place, "real": first.real, "imag": first.imag})
        values = np.median(spectrum.singular_values, axis=0)
        rank = np.arange(1, len(values) + 1)
        tables["singular_values"].append({**place, "rank": rank, "value": values})


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
    for what, count in (("weights", weights.histogram), ("gradient", weights.log_histogram)):
        by_phase = [weights.by_gate(cell, getattr(s, what).cell) for s in ends.values()]
        for kernel, gate in ((k, g) for k, gates in by_phase[0].items() for g in gates):
            blocks = dict(zip(ends, (phase[kernel][gate] for phase in by_phase), strict=True))
            entries = blocks["before"][0].size
            for phase, found in count(blocks, bins=min(50, 10 + entries // 25)).items():
                place = {"what": what, "cell": name, "kernel": kernel, "gate": gate, "phase": phase}
                row = {"low": found.edges[:-1], "high": found.edges[1:]}
                row |= diagnostics.quartiles(found.counts.T)
                row |= {"zero": found.zero.mean(), "not_finite": found.not_finite.mean()}
                tables["histograms"].append(place | row)
                first = np.atleast_2d(blocks[phase][0])
                row, column = np.indices(first.shape).reshape(2, -1)
                row = {"row": row, "column": column, "value": first.ravel()}
                tables["blocks"].append(place | row)


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
        "health": {
            "weights": weights.health(last.weights),
            "gradients": weights.health(gradients, leading=1),
        },
    }
    entry["health"] = {
        what: {path: row._asdict() for path, row in rows.items()}
        for what, rows in entry["health"].items()
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


def verdict(cells):
    gated = [cells[name] for name in KEEPS if name in cells]
    if not gated:
        return "no gated cell was watched"
    for entry in gated:
        if np.mean(np.array(entry["loss_of_seeds"]) < entry["chance"] / 2) < 0.75:
            return "inconclusive"
    grows = all(entry["longest_unit"]["growth"]["low"] > 1 for entry in gated)
    return "reproduced" if grows else "not reproduced"


def measure(config, run):
    task, tables, cells = config.make_task(), collections.defaultdict(list), {}
    for name in config.cells:
        cells[name] = train(config, name, task, run, tables)
    for table, parts in tables.items():
        run.write_table(table, parts)
    summary = {"cells": cells, "verdict": verdict(cells)}
    print_summary(summary)
    return summary


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

    if any(name in KEEPS for name in cells):
        draw_gates(run, figures, plot)
    for cell in progress(cells, "figures of weights"):
        draw_weights(run, figures, cell)


def draw_gates(run, figures, plot):
    table, names = run.read_table("half_lives"), dict(QUANTILES)
    label = "half-life that the gate implies, steps"
    figure = plot(table, series="quantile", panel="cell", names=names, ylabel=label, log_y=True)
    run.save_figure("half_lives", figure)

    gates, saturation = run.read_table("gates"), run.read_table("saturation")
    gate, side = np.char.partition(saturation["series"], "_").T[[0, 2]]
    saturation |= {"gate": gate, "series": side}
    for table in (gates, saturation):
        pairs = zip(table["cell"], table["gate"], strict=True)
        table["panel"] = np.array([f"{TITLES[cell]}, gate {gate}" for cell, gate in pairs])
    label = "share of units and sequences"
    figure = plot(saturation, series="series", panel="panel", names=SIDES, ylabel=label)
    run.save_figure("saturation", figure)
    label = "value of the gate"
    figure = figures.histograms(gates, "phase", panel="panel", names=PHASES, xlabel=label)
    run.save_figure("gates", figure)


def draw_weights(run, figures, cell):
    """Draw a cell's weights, their gradients, and the spectra of its recurrent blocks."""

    def save(name, figure, title):
        figure.suptitle(f"{TITLES[cell]}: {title}")
        run.save_figure(f"{cell}_{name}", figure)

    for name in ("eigenvalues", "singular_values"):
        table = choose(run.read_table(name), cell=cell)
        save(name, getattr(figures, name)(table), f"{name.replace('_', ' ')} of recurrent blocks")
    histograms = choose(run.read_table("histograms"), cell=cell)
    blocks = choose(run.read_table("blocks"), cell=cell, phase="after")
    for what, (label, scale) in WHAT.items():
        for kernel in ("input_kernel", "recurrent_kernel"):
            figure = figures.histograms(
                choose(histograms, what=what, kernel=kernel),
                "phase",
                panel="gate",
                names=PHASES,
                xlabel=scale,
                log_x=what == "gradient",
            )
            save(f"{what}_{kernel}", figure, f"{label} of the {kernel.replace('_', ' ')}")
        figure = figures.block_maps(unpack(choose(blocks, what=what)))
        save(f"{what}_maps", figure, f"{label} after training")


def in_order(table):
    """Return a table of live metrics, which come in alphabetical order, sorted by series."""
    order = np.argsort(table["series"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def choose(table, **where):
    chosen = np.all([table[name] == value for name, value in where.items()], axis=0)
    return {name: column[chosen] for name, column in table.items()}


def unpack(table):
    """Return kernel -> gate -> block of a table of entries."""
    found = collections.defaultdict(dict)
    for kernel, gate in dict.fromkeys(zip(table["kernel"], table["gate"], strict=True)):
        part = choose(table, kernel=kernel, gate=gate)
        row, column = part["row"].astype(int), part["column"].astype(int)
        block = np.empty((row.max() + 1, column.max() + 1))
        block[row, column] = part["value"]
        found[kernel][gate] = block
    return found


def print_summary(summary):
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
        health = {
            f"{what} {path}": weights.Health(**row)
            for what, rows in entry["health"].items()
            for path, row in rows.items()
        }
        ill = {path: row for path, row in health.items() if any(row[1:])}
        entries = f"{sum(row.size for row in health.values())} entries of weights and gradients"
        print(f"{TITLES[name]}: {entries}, " + ("of which" if ill else "all finite, none dead"))
        if ill:
            print(textwrap.indent(weights.health_report(ill), "  "))
    print(f"Verdict: {summary['verdict']}")


def run(config: Config) -> dict[str, Any]:
    """Run the experiment and return its summary."""
    return in_run("gates", config, functools.partial(measure, config), draw)


if __name__ == "__main__":
    main(Config, run)
