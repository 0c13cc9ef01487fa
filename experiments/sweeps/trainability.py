"""Where each cell trains: recurrent gain, forget bias and the length of what it has to remember.

Claim: what a network can learn is what its gradient reaches at initialisation. An Elman network
trains in a window around gain 1 (Schoenholz et al. 2017; Chen, Pennington, Schoenholz 2018) that
narrows with the length; gates widen it, the more so with a forget bias (Gers, Schmidhuber, Cummins
2000; Jozefowicz, Zaremba, Sutskever 2015), which sets the time scale of a unit: 1 / (1 - s(bias))
steps (Tallec & Ollivier 2018).

The recurrent blocks are `gain` times orthogonal ones; the forget bias is that of the LSTM's forget
gate or of the GRU's z, which keeps h. A setting trains if the median seed's loss on held-out
sequences is below half of chance. All gains, biases, lengths and seeds of a cell are one population
in one program; shorter sequences are padded, and seeds share their random numbers between settings.

Finding, for each cell: for an LSTM or a GRU `a forget bias helps` if at some length more gains
train with the best positive bias than with none, and at none fewer, else `it does not`; for others
`the window narrows` if fewer gains train at the longest than at the shortest length, else `it does
not`. Verdict: `reproduced` if every built-in cell trained shows its finding; else `not reproduced`;
`quick run only` if --steps, --seeds, --features or the longest of --lengths is below its default.

    python experiments/sweeps/trainability.py
    python experiments/sweeps/trainability.py --task adding --lengths 20 50 100 --steps 2000
"""

import dataclasses
import functools
from typing import Literal

import rnnjax
from rnnjax import experiment, networks, tasks, training
from rnnjax.cells.initializers import Orthogonal
from rnnjax.command_line import ArgumentError, finite
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, grids, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

GATED = "lstm", "gru"
TASKS = {"temporal_order": tasks.TemporalOrder, "adding": tasks.AddingArjovsky2016}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, TrainingOptions):
    """Map the loss after training over gain, forget bias and length, medians over seeds.

    Prints a table and writes figures (PNG, SVG), members (a row for each network; CSV and Parquet),
    settings.csv (over seeds), metrics.jsonl (its `seed` is the row of members.csv) and
    summary.json. The default run takes about three minutes on two CPU cores.
    """

    task: Literal[tuple(TASKS)] = "temporal_order"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn."""
    lengths: tuple[int, ...] = (20, 40, 80)
    """Sequence lengths T."""
    gains: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0)
    """Factors of the orthogonal recurrent blocks."""
    forget_biases: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.0, 4.0)
    """Biases of the LSTM's forget gate and of the GRU's z; 0 must be among them."""
    features: int = 32
    steps: int = 500
    batch_size: int = 16
    seeds: int = 2
    record_every: int = 100

    def __post_init__(self):
        super().__post_init__()
        finite(self, "lengths", "forget_biases")
        finite(self, "gains", above=0)
        if 0 not in self.forget_biases:
            raise ArgumentError(f"--forget-biases must have 0 among them, got {self.forget_biases}")
        self.make_task()

    def make_task(self):
        try:
            return tasks.Padded(tuple(TASKS[self.task](length=n) for n in self.lengths))
        except ValueError as error:
            raise ArgumentError(f"--lengths: {error}") from None

    def population(self, name):
        """Return the settings of a cell's population; a gain only for a cell that is Gated."""
        gains = self.gains if isinstance(self.make_cell(name), rnnjax.Gated) else (1.0,)
        biases = {"forget_bias": self.forget_biases} if name in GATED else {}
        return training.grid(length=self.lengths, gain=gains, **biases, seed=self.members)


def make_start(config, name, optimizer):
    """Return the function of a member's settings to its state."""
    task, cell = config.make_task(), config.make_cell(name)

    def start(settings):
        options = {"forget_bias": settings["forget_bias"]} if name in GATED else {}
        if isinstance(cell, rnnjax.Gated):
            options["recurrent_kernel_init"] = Orthogonal(settings["gain"])
        return grids.start(cell, task, optimizer, settings, config.make_cell(name, **options))

    return start


def make_train_step(config, name, optimizer):
    task, cell = config.make_task(), config.make_cell(name)

    def train_step(state, key):
        batch, lengths = task.sample(key, state.settings["length"], config.batch_size)

        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs, seq_lengths=lengths), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def evaluate(task, cell, state):
    """Return loss and accuracy on sequences never trained on."""
    key = jax.random.fold_in(jax.random.key(state.settings["seed"]), 1)
    batch, lengths = task.sample(key, state.settings["length"], 1024)
    return task.metrics(readout.apply(cell, state.params, batch.inputs, seq_lengths=lengths), batch)


def measure(config, run):
    import optax

    task, tables, maps, summary = config.make_task(), [], [], {}
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    for full_name in config.cells:
        cell, name = config.make_cell(full_name), short_name(full_name)
        start = make_start(config, full_name, optimizer)
        step = make_train_step(config, full_name, optimizer)  # draws its batch itself, from the key
        members = config.population(full_name)
        trained = grids.train(config, run, members, start, step, lambda key: key, cell=name)
        columns = {"forget_bias": np.nan} | members  # Elman has none
        of_member = functools.partial(evaluate, task, cell)
        table = grids.member_table(trained, columns, of_member, task.chance, cell=name)
        if full_name not in networks.CELLS:
            print(networks.not_varied(full_name, cell))
        rows = grids.over_seeds(table, *members)
        tables.append(table)
        maps.append({"cell": name, "forget_bias": np.nan, **rows})
        summary[name] = conclude(full_name, rows)
    grids.write(run, tables, maps)
    return summary


def conclude(name, rows):
    """Return at which gains a cell trains, by length and forget bias, and the finding."""
    trains = grids.trains(rows, 0.5, "gain", "length", "forget_bias")
    if name in GATED:
        counts = [{float(b): len(gains) for b, gains in found.items()} for found in trains.values()]
        more = [max((n for b, n in c.items() if b > 0), default=0) - c[0] for c in counts]
        finding = "a forget bias helps" if min(more) >= 0 and max(more) > 0 else "it does not"
    else:
        wide = {int(length): len(found["None"]) for length, found in trains.items()}
        finding = "the window narrows" if wide[max(wide)] < wide[min(wide)] else "it does not"
    entry = {"gains": len(np.unique(rows["gain"])), "trains": trains}
    return entry | grids.totals(rows) | {"finding": finding}


def verdict(config, summary):
    claims = {"elman": "the window narrows"} | dict.fromkeys(GATED, "a forget bias helps")
    claims = {cell: claim for cell, claim in claims.items() if cell in summary}
    conditions = {f"{c}: {claim}": summary[c]["finding"] == claim for c, claim in claims.items()}
    judged = Verdict.judge(conditions, otherwise="no built-in cell was trained")
    longest = max(config.lengths), max(Config.lengths)
    return judged.unless_quick(config, "steps", "seeds", "features", lengths=longest)


def draw(run):
    """Draw the figures of a run from its tables."""
    table = run.read_table("settings")
    names = {cell: networks.label(cell) for cell in table["cell"].tolist()}
    places = zip(table["cell"], table["length"], strict=True)
    table["panel"] = np.array([f"{names[cell]}, T = {length:.0f}" for cell, length in places])
    gated = np.isin(table["cell"], GATED)
    draw_maps = functools.partial(grids.draw_maps, run, x="gain", xlabel="recurrent gain")
    options = {"panel": "panel", "columns": len(np.unique(table["length"]))}
    biased, others = (experiment.select(table, rows) for rows in (gated, ~gated))
    draw_maps("gated", biased, y="forget_bias", ylabel="forget bias", **options)
    draw_maps("by_length", others, y="length", ylabel="length T", panel="cell", names=names)


def show(summary):
    print("Gains that train")
    for name, entry in summary.items():
        for length, by_bias in entry["trains"].items():
            text = ", ".join(f"bias {bias}: {len(gains)}" for bias, gains in by_bias.items())
            print(f"{name:6} T = {length:<5}{text.removeprefix('bias None: ')} of {entry['gains']}")
        print(f"{name:6} {entry['finding']}; {entry['stopped']} of {entry['members']} stopped")


run = experiment.Experiment("trainability", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
