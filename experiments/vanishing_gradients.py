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
another cell; `quick run only` if --steps, --seeds, --features or --length is below its default.

    python experiments/vanishing_gradients.py
    python experiments/vanishing_gradients.py --cells elman lstm ./mine.py:MyCell
    python experiments/vanishing_gradients.py --task digits --cells lstm gru --seeds 5
    python experiments/vanishing_gradients.py --preset long      # for an accelerator
"""

import collections
import dataclasses
import functools
from typing import Literal

import rnnjax
from rnnjax import diagnostics, experiment, tasks, training
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, profile_tables, readout
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

TASKS = {
    "adding": tasks.AddingArjovsky2016,
    "adding_arjovsky2016": tasks.AddingArjovsky2016,
    "adding_hochreiter1997": tasks.AddingHochreiter1997,
    "copy_memory": tasks.CopyMemory,
    "temporal_order": tasks.TemporalOrder,
    "digits": tasks.PixelDigits,
}
LENGTHS = {"default": 100, "long": 750, "digits": 64}


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
        default = LENGTHS.get(self.task, LENGTHS[self.preset])
        length = default if self.length is None else self.length
        return experiment.make_task(TASKS, self.task, length=length)


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
    """Return ln(||dL/ds_{T-k}|| / ||dL/ds_T||) at lags k, `[K, B]`, jointly and by part of s."""
    lengths, answer = tasks.last_answer(batch)
    final, _ = rnnjax.unroll(cell, params.cell, batch.inputs, seq_lengths=lengths)

    def loss(carry):
        outputs = cell.output(carry) @ params.kernel + params.bias
        return task.example_losses(outputs[None], answer).sum()

    cotangent = jax.grad(loss)(final)
    where = cell, params.cell, batch.inputs, cotangent
    if isinstance(cell, rnnjax.LSTM):
        split = diagnostics.log_carousel_profile(*where, seq_lengths=lengths)._asdict()
        parts = split.pop("parts")._asdict() | {"joint": split.pop("joint")} | split
    else:
        parts = diagnostics.log_gradient_profile_by_part(*where, seq_lengths=lengths)._asdict()
        parts["joint"] = functools.reduce(jnp.logaddexp, [2 * p for p in parts.values()]) / 2
    entries = jnp.concatenate([c.reshape(len(c), -1) for c in jax.tree.leaves(cotangent)], axis=-1)
    start = jnp.log(jnp.linalg.norm(entries, axis=-1))
    return {part: diagnostics.by_lag(p, lengths, lags) - start for part, p in parts.items()}


def make_data(config, task) -> tuple:
    """Return sequences to probe, sequences to test, `[S, ...]`, and what to train on."""
    if config.task == "digits":
        sets, batches = experiment.digit_sets(config, tasks.Batch, 32, None)
        return *sets, {"batches": batches}
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    return *experiment.sampled_sets(task, config.members, 32, 1024), {"sample": sample}


def measure(config, run):
    import optax

    task, tables, summary = config.make_task(), collections.defaultdict(list), {}
    probe, held_out, source = make_data(config, task)
    ends, _ = jax.jit(jax.vmap(tasks.last_answer))(probe)
    lags = int(np.asarray(ends).min())  # which every probed sequence has
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    for full_name in config.cells:
        cell, name = readout.sized_cell(config, full_name, task), short_name(full_name)
        state = readout.start(config, optimizer, cell, task)
        step = make_train_step(cell, task, optimizer)
        profile = training.over_population(functools.partial(gradient_profile, cell, task, lags))
        trained = experiment.train_and_probe(
            config, run, step, state, profile, probe, cell=name, **source
        )
        half_lives = profile_tables.record(tables, name, trained)
        run.write_tables(tables)
        summary[name] = {
            "parameters": readout.count(cell, task),
            "features": cell.output_size,
            "half_life_init": half_lives[0],
            "half_life_trained": half_lives[config.steps],
            **readout.score(cell, task, trained.state.params, held_out),
        }
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
    limits = {"length": (config.make_task().length, LENGTHS.get(config.task, LENGTHS["default"]))}
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features", **limits)


def draw(run):
    """Draw the figures of a run from its tables."""
    chance = next(iter(run.read_json("summary.json").values()))["chance"]
    profile_tables.draw(run, chance)


def show(summary):
    columns = "parameters", "half_life_init", "half_life_trained", "final_loss", "chance", "success"
    rows = [[cell, *(entry[name] for name in columns)] for cell, entry in summary.items()]
    experiment.print_table(["cell", *columns], rows, digits=5)


run = experiment.Experiment(
    "vanishing_gradients", Config, measure, verdict, draw, show=show, presets=PRESETS
)

if __name__ == "__main__":
    run.main()
