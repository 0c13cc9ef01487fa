"""Where each cell trains: recurrent gain, forget bias and the length of what it has to remember.

Claim: what a network can learn is what its gradient reaches at initialisation. An Elman network
trains in a window around gain 1 (Schoenholz et al. 2017, "Deep information propagation"; Chen,
Pennington, Schoenholz 2018, "Dynamical isometry and a mean field theory of RNNs") that narrows with
the length; gates widen it, the more so with a forget bias (Gers, Schmidhuber, Cummins 2000;
Jozefowicz, Zaremba, Sutskever 2015), which sets the time scale of a unit: 1 / (1 - s(bias)) steps
(Tallec & Ollivier 2018, "Can recurrent neural networks warp time?").

The recurrent blocks are `gain` times orthogonal ones; the forget bias is that of the LSTM's forget
gate or of the GRU's z, which keeps h. A setting trains if the median seed's loss on held-out
sequences is below half of chance after the same number of updates. All gains, biases, lengths and
seeds of a cell are one population in one program, in which shorter sequences are padded; seeds
share their random numbers between settings.

Finding, for each cell: for an LSTM or a GRU `a forget bias helps` if at some length more gains
train with the best positive bias than with none, and at none fewer, else `it does not`; for others
`the window narrows` if fewer gains train at the longest than at the shortest length, else `it does
not`. Verdict: `reproduced` if every built-in cell trained shows its finding; else `not reproduced`.

The file is longer than 200 lines because one program trains networks of several lengths, padded.

    python experiments/sweeps/trainability.py
    python experiments/sweeps/trainability.py --task adding --lengths 20 50 100 --steps 2000
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import rnnjax
from rnnjax import experiment, networks, tasks, training
from rnnjax.cells.initializers import Gaussian, Orthogonal
from rnnjax.command_line import ArgumentError, finite
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import short_name

GATED = "lstm", "gru"
TASKS = {"temporal_order": tasks.TemporalOrder, "adding": tasks.AddingArjovsky2016}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, TrainingOptions):
    """Map the loss after training over gain, forget bias and length, medians over seeds.

    Prints a table and writes figures (PNG, SVG), members (a row for each network; CSV and Parquet),
    settings.csv (over seeds), metrics.jsonl (its `seed` is the row of members.csv) and
    summary.json. The default run takes about two minutes on two CPU cores.
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
        self.make_tasks()

    def make_tasks(self):
        try:
            return [TASKS[self.task](length=length) for length in self.lengths]
        except ValueError as error:
            raise ArgumentError(f"--lengths: {error}") from None

    def population(self, name):
        """Return the settings of a cell's population; a gain only for a cell that is Gated."""
        gains = self.gains if isinstance(self.make_cell(name), rnnjax.Gated) else (1.0,)
        axes: dict[str, Any] = {"length": self.lengths, "gain": gains}
        if name in GATED:
            axes["forget_bias"] = self.forget_biases
        return training.grid(**axes, seed=self.members)


def apply(cell, params, inputs, length):
    lengths = jnp.full(inputs.shape[1], length)  # each the member's own
    return readout.apply(cell, params, inputs, seq_lengths=lengths)


def make_sample(config):
    """Return a function of a key and a member's length to a batch, padded to the longest."""
    total = max(config.lengths)

    def pad(a):
        return jnp.pad(a, ((0, total - len(a)), *((0, 0) for _ in a.shape[1:])))

    def sample(key, length, batch_size):
        drawn = [
            lambda key, task=task: jax.tree.map(pad, task.sample(key, batch_size))
            for task in config.make_tasks()
        ]
        return lax.switch(jnp.argmax(jnp.array(config.lengths) == length), drawn, key)

    return sample


def make_start(config, name, optimizer):
    """Return the function of a member's settings to its state."""
    task, cell = config.make_tasks()[0], config.make_cell(name)

    def start(settings):
        keys = jax.random.split(jax.random.key(settings["seed"]), 3)
        options = {"forget_bias": settings["forget_bias"]} if name in GATED else {}
        if isinstance(cell, rnnjax.Gated):
            options["recurrent_kernel_init"] = Orthogonal(settings["gain"])
        drawn = config.make_cell(name, **options)  # for init only
        kernel = Gaussian()(keys[0], (cell.output_size, task.output_size))
        cell_params = drawn.init(keys[1], task.input_size)
        params = readout.Readout(cell_params, kernel, jnp.zeros(task.output_size))
        state = training.TrainState(params, optimizer.init(params), jnp.int32(0), keys[2])
        return state._replace(settings=settings)

    return start


def make_train_step(config, name, optimizer):
    cell, task, sample = config.make_cell(name), config.make_tasks()[0], make_sample(config)

    def train_step(state, key):
        length = state.settings["length"]
        batch = sample(key, length, config.batch_size)

        def loss_fn(params):
            return task.loss(apply(cell, params, batch.inputs, length), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def train(config, name, run):
    """Train the population of a cell, and return it as a table."""
    import optax

    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    )
    members = config.population(name)
    resumable = training.ResumableTraining.from_config(
        config, run, range(len(members["seed"])), cell=short_name(name)
    )
    trained = resumable.train_on_samples(
        make_train_step(config, name, optimizer),
        training.over_population(make_start(config, name, optimizer))(members),
        lambda key: key,  # the step draws its batch itself: of the member's length
        steps=config.steps,
        chunk_size=config.steps,
    )
    cell, sample, task = config.make_cell(name), make_sample(config), config.make_tasks()[0]

    def evaluate(state):
        key, length = jax.random.key(state.settings["seed"]), state.settings["length"]
        batch = sample(jax.random.fold_in(key, 1), length, 1024)
        return task.metrics(apply(cell, state.params, batch.inputs, length), batch)

    found = jax.tree.map(np.asarray, training.over_population(evaluate)(trained.state))
    updates = sum(chunk.counts for chunk in trained.chunks)
    going = updates == config.steps
    return {
        "cell": short_name(name),
        "member": np.arange(len(going)),
        "forget_bias": math.nan,  # Elman has none
        **members,
        "updates": updates,
        "loss": np.where(going, found["loss"], np.nan),  # NaN: it stopped
        "loss_of_chance": np.where(going, found["loss"] / task.chance, np.nan),
        "accuracy": np.where(going, found["accuracy"], np.nan),
    }


def conclude(config, name, rows):
    """Return at which gains a cell trains, by length and forget bias, and the verdict."""
    trains, fewer, more = {}, False, False
    for length in config.lengths:
        here = rows["length"] == length
        counts = {}
        for bias in config.forget_biases if name in GATED else (None,):
            at = here if bias is None else here & (rows["forget_bias"] == bias)
            counts[bias] = rows["gain"][at & (rows["median"] < 0.5)].tolist()
        trains[str(length)] = {str(bias): gains for bias, gains in counts.items()}
        if name in GATED:
            best = max((len(g) for b, g in counts.items() if b > 0), default=0)
            fewer, more = fewer or best < len(counts[0]), more or best > len(counts[0])
    best = int(rows["median"].argmin())
    if name in GATED:
        finding = "a forget bias helps" if more and not fewer else "it does not"
    else:
        widths = [len(trains[str(length)]["None"]) for length in sorted(config.lengths)]
        finding = "the window narrows" if widths[-1] < widths[0] else "it does not"
    return {
        "gains": len(np.unique(rows["gain"])),
        "trains": trains,
        "best": {key: column[best].item() for key, column in rows.items()},
        "stopped": int(rows["stopped"].sum()),
        "members": int(rows["members"].sum()),
        "finding": finding,
    }


def measure(config, run):
    tables, maps, summary = [], [], {}
    for name in config.cells:
        table = train(config, name, run)
        axes = config.population(name)
        if name not in networks.CELLS:
            print(networks.not_varied(name, config.make_cell(name)))
        settings = {key: table[key] for key in axes}
        rows = training.aggregate_seeds(settings, table["loss_of_chance"])
        tables.append(table)
        maps.append({"cell": short_name(name), "forget_bias": math.nan, **rows})
        summary[short_name(name)] = conclude(config, name, rows)
    run.write_table("members", tables)
    run.write_parquet("members", run.read_table("members"))
    run.write_table("settings", maps)
    return summary


def verdict(config, summary):
    claims = {"elman": "the window narrows"} | dict.fromkeys(GATED, "a forget bias helps")
    conditions = {
        f"{cell}: {claim}": summary[cell]["finding"] == claim
        for cell, claim in claims.items()
        if cell in summary
    }
    return Verdict.judge(conditions, otherwise="no built-in cell was trained")


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table = run.read_table("settings")
    shown = np.clip(table["median"], 0.01, 2)
    table["median"] = np.where(table["median"] < np.inf, shown, np.nan)
    heat_maps = functools.partial(
        figures.heat_maps,
        x="gain",
        value="median",
        xlabel="recurrent gain",
        label="loss / chance, median over seeds\n(cut off at 0.01 and 2)",
        log=True,
        not_finite="half of the seeds or more stopped",
    )
    gated = np.isin(table["cell"], GATED)
    if gated.any():
        rows = experiment.select(table, gated)
        places = zip(rows["cell"], rows["length"], strict=True)
        rows["panel"] = np.array(
            [f"{networks.label(cell)}, T = {length:.0f}" for cell, length in places]
        )
        columns = len(np.unique(rows["length"]))
        figure = heat_maps(
            rows, y="forget_bias", panel="panel", columns=columns, ylabel="forget bias"
        )
        run.save_figure("gated", figure)
    if not gated.all():
        rows = experiment.select(table, ~gated)
        names = {cell: networks.label(cell) for cell in rows["cell"].tolist()}
        figure = heat_maps(rows, y="length", panel="cell", names=names, ylabel="length T")
        run.save_figure("by_length", figure)


def show(summary):
    print("Gains that train")
    for name, entry in summary.items():
        for length, by_bias in entry["trains"].items():
            counts = {bias: len(gains) for bias, gains in by_bias.items()}
            shown = (
                f"bias {bias}: {n}" if bias != "None" else str(n) for bias, n in counts.items()
            )
            print(f"{name:6} T = {length:<5}" + ", ".join(shown) + f" of {entry['gains']}")
        print(f"{name:6} {entry['finding']}; {entry['stopped']} of {entry['members']} stopped")


run = experiment.Experiment("trainability", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
