"""Why an Elman network forgets: gradients through time, before, during and after training.

Claim: on a task that needs long memory the gradient of a vanilla (Elman) RNN vanishes within tens
of steps, so the network stays at the memoryless answer, while an LSTM or a GRU learns to carry the
gradient across the whole sequence, and with it the task (Hochreiter 1991; Bengio, Simard, Frasconi
1994; Hochreiter & Schmidhuber 1997).

Measured: ||dL/ds_{T-k}|| / ||dL/ds_T|| at lags k, L a sequence's own loss at its last scored step
T and s_t the carry that enters step t, on sequences never trained on. The half-life is that of the
exponential fitted to the median over seeds and sequences. A network has solved the task if its loss
on other held-out sequences (for tasks with classes: its accuracy) passes the task's success rule.

Verdict: `reproduced` if the memoryless cell, Elman, stays at chance (no seed solves the task, and
the median held-out loss is above 0.8 of chance), while each other cell in --cells solves it (three
quarters of the seeds or more) and has a trained half-life at least five times as long as Elman's.
In the default run the ratios are 70 (GRU) and infinite (LSTM). `inconclusive` without Elman or
without another cell; `quick run only` if --steps, --seeds, --features or --length is below its
default: too little to learn or to remember.

The file is longer than 200 lines because it offers six tasks, one of them real data, and splits an
LSTM's gradient by path.

    python experiments/vanishing_gradients.py
    python experiments/vanishing_gradients.py --cells elman lstm ./mine.py:MyCell
    python experiments/vanishing_gradients.py --task digits --cells lstm gru --seeds 5
    python experiments/vanishing_gradients.py --preset long      # for an accelerator
"""

import collections
import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import short_name

TASKS = {
    "adding": tasks.AddingArjovsky2016,
    "adding_arjovsky2016": tasks.AddingArjovsky2016,
    "adding_hochreiter1997": tasks.AddingHochreiter1997,
    "copy_memory": tasks.CopyMemory,
    "temporal_order": tasks.TemporalOrder,
    "digits": tasks.PixelDigits,
}
PHASES = {"before": "before training", "during": "halfway", "after": "after training"}
LENGTHS = {"default": 100, "long": 750}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, TrainingOptions):
    """Measure gradients through time in recurrent networks while they learn a task.

    Prints a table and a verdict, and writes figures (PNG, SVG), the numbers behind them (CSV),
    metrics.jsonl and summary.json. The default run takes under two minutes on two CPU cores.
    """

    preset: Literal["default", "long"] = "default"
    """Defaults of the other options: a run for a laptop, or a long one for an accelerator."""
    task: Literal[tuple(TASKS)] = "adding"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn. `adding` is short for `adding_arjovsky2016`; `digits` is real data."""
    length: int | None = None
    """Sequence length T [default: 100; 750 with --preset long; always 64 for digits]."""
    match_parameters: bool = False
    """Widen the smaller cells until they have as many parameters as the largest at --features."""
    steps: int = 1000
    snapshots: int = 20
    """How often the gradient profile is measured during training."""
    permuted: bool = False
    """Show the pixels of digits in one fixed random order."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "snapshots")
        if self.permuted and self.task != "digits":
            raise ArgumentError(f"--permuted applies to --task digits, not to {self.task}")
        self.make_task()

    def make_task(self):
        default = 64 if self.task == "digits" else LENGTHS[self.preset]
        length = default if self.length is None else self.length
        return experiment.make_task(TASKS, self.task, length=length)

    def network(self, name, task):
        """Return the cell; with --match-parameters, of the width nearest to the largest's count."""
        if not self.match_parameters:
            return self.make_cell(name)
        names = {*networks.CELLS, *self.cells}
        return readout.matched_cell(name, self.features, task, names)


PRESETS = {
    "default": Config(),
    "long": Config(preset="long", features=128, steps=20000, batch_size=128, seeds=8, snapshots=50),
}


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


@jax.default_matmul_precision("float32")
def gradient_profile(cell, task, lags, params, batch):
    """Return ln(||dL/ds_{T-k}|| / ||dL/ds_T||) at lags k, `[K, B]`, and its parts.

    L is a sequence's own loss at its last scored step, T that step.
    """
    lengths, answer = tasks.last_answer(batch)
    final, _ = rnnjax.unroll(cell, params.cell, batch.inputs, seq_lengths=lengths)

    def loss(carry):
        outputs = cell.output(carry) @ params.kernel + params.bias
        return task.example_losses(outputs[None], answer).sum()

    cotangent = jax.grad(loss)(final)
    where = cell, params.cell, batch.inputs, cotangent
    parts = diagnostics.log_gradient_profile_by_part(*where, seq_lengths=lengths)._asdict()
    parts["joint"] = functools.reduce(jnp.logaddexp, [2 * p for p in parts.values()]) / 2
    if isinstance(cell, rnnjax.LSTM):
        parts |= diagnostics.log_carousel_profile(*where, seq_lengths=lengths)._asdict()
    start = jnp.log(sum(jnp.sum(c**2, -1) for c in jax.tree.leaves(cotangent))) / 2
    return {part: diagnostics.by_lag(p, lengths, lags) - start for part, p in parts.items()}


def make_data(config, task):
    """Return sequences to probe and to test `[S, ...]`, the largest lag K, and training batches.

    K is the shortest distance from a sequence's start to its last scored step. The batches are a
    function that returns one iterator per seed; None means that they are sampled.
    """
    if config.task == "digits":
        (probe, held_out), batches = experiment.digit_sets(config, tasks.Batch, 32, None)
    else:
        probe, held_out = experiment.sampled_sets(task, config.members, 32, 1024)
        batches = None
    ends, _ = jax.jit(jax.vmap(tasks.last_answer))(probe)
    return probe, held_out, int(np.asarray(ends).min()), batches


def train(config, name, task, data, run, tables):
    """Train all seeds of a cell, add to the numbers behind the figures, and return its summary."""
    import optax

    probe, held_out, lags, batches = data
    cell, name = config.network(name, task), short_name(name)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    state = readout.start(config, optimizer, cell, task)
    train_step = make_train_step(cell, task, optimizer)
    chunk_size = -(-config.steps // config.snapshots)
    profile = training.over_population(functools.partial(gradient_profile, cell, task, lags))
    options: Any = {"steps": config.steps, "chunk_size": chunk_size}
    options["observe"] = lambda state: profile(state.params, probe)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    if batches is None:
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        trained = resumable.train_on_samples(train_step, state, sample, **options)
    else:
        trained = resumable.train_on_batches(train_step, state, batches(), **options)

    middle = chunk_size * max(1, config.steps // chunk_size // 2)
    phases = {0: "before", middle: "during", config.steps: "after"}
    half_life = {0: record(tables, name, 0, "before", trained.before)}
    for chunk in trained.chunks:
        phase = phases.get(chunk.step, "")
        half_life[chunk.step] = record(tables, name, chunk.step, phase, chunk.observed)
        curve = experiment.loss_curve(chunk)
        tables["learning_curves"] += [{"cell": name, **row} for row in curve]

    return {
        "parameters": readout.count(cell, task),
        "features": cell.output_size,
        "half_life_init": half_life[0],
        "half_life_trained": half_life[config.steps],
        **readout.score(cell, task, trained.state.params, held_out),
    }


def record(tables, cell, step, phase, profiles):
    """Add profiles `[S, K, B]` by part to the tables, and return the half-life of their median."""
    life = None
    for part, values in profiles.items():
        rows = {"cell": cell, "step": step, **experiment.profile_rows(values)}
        if part == "joint":
            life = float(jax.jit(diagnostics.half_life)(rows["median"]))
            tables["profile_over_training"].append(rows)
            if phase:
                tables["gradient_profiles"].append({"phase": phase, **rows, "half_life": life})
        if phase and "carousel" in profiles:  # an LSTM
            tables["path_split"].append({"phase": phase, "path": part, **rows})
    return life


def measure(config, run):
    task, tables, summary = config.make_task(), collections.defaultdict(list), {}
    data = make_data(config, task)
    for name in config.cells:
        summary[short_name(name)] = train(config, name, task, data, run, tables)
        for table, parts in tables.items():
            run.write_table(table, parts)
    return summary


def verdict(config, summary):
    memoryless, others = summary.get("elman"), {k: v for k, v in summary.items() if k != "elman"}
    if memoryless is None or not others:
        return Verdict.inconclusive("the rule compares Elman with other cells: --cells elman lstm")
    at_chance = memoryless["final_loss"] > 0.8 * memoryless["chance"]
    conditions = {"elman stays at chance": memoryless["success"] == 0 and at_chance}
    for cell, entry in others.items():
        lasts = entry["half_life_trained"] >= 5 * memoryless["half_life_trained"]
        conditions[f"{cell} solves the task"] = entry["success"] >= 0.75
        conditions[f"{cell}'s trained half-life is at least 5 times elman's"] = lasts
    length = LENGTHS["default"] if config.task == "digits" else config.make_task().length
    limits = {"length": (length, LENGTHS["default"])}
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features", **limits)


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table = run.read_table("gradient_profiles")
    steps = dict(zip(table["phase"], table["step"], strict=True))
    titles = {p: f"{PHASES[p]} (step {int(steps[p])})" for p in PHASES if p in steps}
    run.save_figure("gradient_profiles", figures.gradient_profiles(table, titles))
    table = run.read_table("profile_over_training")
    run.save_figure("profile_over_training", figures.profile_over_training(table))
    chance = next(iter(run.read_json("summary.json").values()))["chance"]
    table = run.read_table("learning_curves")
    run.save_figure("learning_curves", figures.learning_curves(table, chance))
    if (run.path / "path_split.csv").exists():
        paths = {
            "c": "to the cell state c",
            "h": "to the hidden state h",
            "carousel": "through forget gates alone",
            "rest": "through the recurrent kernel",
            "joint": "all of it",
        }
        table = run.read_table("path_split")
        run.save_figure("path_split", figures.path_split(table, titles, paths))


def show(summary):
    columns = "parameters", "half_life_init", "half_life_trained", "final_loss", "chance", "success"
    rows = [[cell, *(entry[name] for name in columns)] for cell, entry in summary.items()]
    experiment.print_table(["cell", *columns], rows, digits=5)


run = experiment.Experiment(
    "vanishing_gradients", Config, measure, verdict, draw, show=show, presets=PRESETS
)

if __name__ == "__main__":
    run.main()
