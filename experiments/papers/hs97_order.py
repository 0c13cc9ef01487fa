"""Does an LSTM learn the order of symbols a hundred steps apart, in as many sequences as in 1997?

Claim: a long short-term memory learns to tell the order in which two symbols came, hidden among
distractors and up to fifty steps apart, in the mean of 20 trials after 31,390 training sequences,
and then gets 1 of 2,560 test sequences wrong (Hochreiter, Schmidhuber 1997, "Long short-term
memory", Neural Computation 9, experiment 6a). With three symbols (`--symbols 3`, experiment 6b) it
takes 571,100 sequences in the mean of 10 trials.

As published: eight one-hot inputs, 4 (8) logistic outputs that read the cells alone, 2 (3) memory
blocks of two cells, 156 (308) weights. The task is `rnnjax.tasks.TemporalOrderHochreiter1997`.
Weights and biases U[-.1, .1], but for the input gates, whose biases start at -2, -4 (, -6). Plain
gradient descent on half the summed squared error of the last outputs, one sequence an update, at
.5 (.1). The gradient is truncated: it goes back in time through cell states alone. Training ends
when the last 2,000 sequences, each judged before its update, are all correct (every output within
.3) and their mean absolute error is below .1; these 2,000 count. Steps of a sequence count from 0.
Different: the number of sequences is limited, to 200,000 (2,000,000).

Verdict: `reproduced` if every network meets the stopping rule; the mean and the median of the
sequences they take are within a factor of two of the published mean; and the median network
answers at least 99.9 % of its test sequences. Else `not reproduced`; `quick run only` if --seeds,
--window, --test-sequences or the limit is below its default.

    python experiments/papers/hs97_order.py
    python experiments/papers/hs97_order.py --symbols 3 --seeds 10
"""

import dataclasses
import functools

import rnnjax
from rnnjax import experiment, tasks, training
from rnnjax.cells import LSTM1997
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.experiment import SeedOptions, Verdict
from rnnjax.experiment.readout import Readout
from rnnjax.initializers import Uniform

import jax
import jax.numpy as jnp
import numpy as np

PUBLISHED = {2: 31_390, 3: 571_100}  # sequences, by symbols: the mean of 20 and of 10 trials
SOURCE = "published mean (Hochreiter & Schmidhuber 1997)"
LEARNING_RATE = {2: 0.5, 3: 0.1}
LIMIT = {2: 200_000, 3: 2_000_000}
MEAN_ERROR, FACTOR, ANSWERED = 0.1, 2, 0.999


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Train networks of 1997 on the temporal order of symbols, sequence by sequence.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about half a minute on two CPU cores.
    """

    symbols: int = 2
    """Symbols whose order counts: 2 (experiment 6a) or 3 (6b)."""
    max_sequences: int | None = None
    """Training sequences at which a network is given up [default: 200,000; 2,000,000 for three
    symbols]."""
    window: int = 2000
    """Training sequences that must all be correct, one after another."""
    test_sequences: int = 2560
    """Fresh sequences on which every network is tested."""
    truncated: bool = True
    """Let the gradient go back in time through cell states alone, as published."""
    seeds: int = 16
    checkpoint_every: int = 5000

    def __post_init__(self):
        super().__post_init__()
        if self.symbols not in PUBLISHED:
            raise ArgumentError(f"--symbols must be 2 or 3, got {self.symbols}")
        at_least(1, self, "window", "test_sequences")
        if self.max_sequences is not None:
            at_least(self.window, self, "max_sequences")

    @property
    def limit(self):
        return LIMIT[self.symbols] if self.max_sequences is None else self.max_sequences

    def make_cell(self):
        blocks = self.symbols
        input_gates = jax.nn.initializers.constant(-2.0 * np.arange(1, blocks + 1))
        biases = (input_gates, *[Uniform(0.1)] * 3)  # of input gates, output gates, cells
        return LSTM1997(2 * blocks, cells_per_block=2, truncated=self.truncated, bias_init=biases)


def init(cell, task, key):
    """Draw the cell, with U[-.1, .1] where `make_cell` says nothing else, and the output units."""
    keys, outputs = jax.random.split(key, 3), task.output_size
    kernel = Uniform(0.1)(keys[1], (cell.output_size, outputs))
    return Readout(cell.init(keys[0], task.input_size), kernel, Uniform(0.1)(keys[2], (outputs,)))


def apply(cell, params, inputs):
    """Return the logistic outputs [T, B, O] at all steps; the last symbol's is the answer."""
    _, hidden = rnnjax.unroll(cell, params.cell, inputs)
    return jax.nn.sigmoid(hidden @ params.kernel + params.bias)


def make_train_step(config, cell, task, rule):
    import optax

    optimizer = optax.sgd(LEARNING_RATE[config.symbols])

    def train_step(state, batch):  # of one sequence
        def loss_fn(params):
            outputs = apply(cell, params, batch.inputs)
            errors = jnp.where(batch.mask[..., None], outputs - batch.targets, 0).sum((0, 1))
            return jnp.sum(errors**2) / 2, (outputs, jnp.abs(errors).mean())

        def update(state):
            slope = jax.grad(loss_fn, has_aux=True)
            gradient, (outputs, error) = slope(state.params)
            judged = rule.judge(state.stream, task.correct(outputs, batch)[0], error)
            updates, opt_state = optimizer.update(gradient, state.opt_state)
            params = optax.apply_updates(state.params, updates)
            return state._replace(params=params, opt_state=opt_state, stream=judged)

        learned = rule.met(state.stream)
        state = jax.lax.cond(learned, lambda state: state, update, state)
        return state._replace(step=state.step + 1), rule.recent(state.stream)

    return train_step, optimizer


def wrong(config, cell, task, params):
    """Return how many of its fresh test sequences each network gets wrong."""

    def count(params, batch):
        return jnp.sum(~task.correct(apply(cell, params, batch.inputs), batch))

    (fresh,) = experiment.sampled_sets(task, config.members, config.test_sequences)
    return {"wrong": training.over_population(count)(params, fresh)}


def measure(config, run):
    task, cell = tasks.TemporalOrderHochreiter1997(symbols=config.symbols), config.make_cell()
    rule = training.StoppingRule(MEAN_ERROR, config.window)
    step, optimizer = make_train_step(config, cell, task, rule)
    state = experiment.start(config, optimizer, functools.partial(init, cell, task))
    state = state._replace(stream=rule.start(config.seeds))
    sample = functools.partial(task.sample, batch_size=1)
    result = experiment.train_until(config, run, rule, step, state, sample, config.limit)
    failed = run.cached("test", wrong, config, cell, task, result.state.params)["wrong"]
    tables = {"learned": [], "error": [], "networks": []}
    series = f"{config.seeds} networks of this run"
    entry = experiment.add_learned(tables, config, rule, result, failed, series)
    mean = {"series": SOURCE, "sequences": [PUBLISHED[config.symbols]] * 2, "median": [0.0, 1.0]}
    tables["learned"].append(mean)
    run.write_tables({name: rows for name, rows in tables.items() if rows})
    return entry


def verdict(config, summary):
    taken, published = experiment.sequences_taken(summary), PUBLISHED[config.symbols]
    answered = 1 - np.median(summary["wrong"]) / config.test_sequences
    conditions = {
        "every network meets the stopping rule": np.isfinite(taken).all(),
        "the mean is near the published one": near(taken.mean(), published),
        "the median is near the published mean": near(np.median(taken), published),
        "the median network answers 99.9 % of its test sequences": answered >= ANSWERED,
    }
    few = {"max_sequences": (config.limit, LIMIT[config.symbols])}
    return Verdict.judge(conditions).unless_quick(
        config, "seeds", "window", "test_sequences", **few
    )


def near(found, published):
    return published / FACTOR <= found <= published * FACTOR


def show(summary):
    experiment.show_learned({"LSTM of 1997": summary})


def draw(run):
    experiment.draw_learned(run, SOURCE, MEAN_ERROR)


run = experiment.Experiment("hs97_order", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
