"""Does an LSTM learn to add two numbers a hundred steps apart, in as many sequences as in 1997?

Claim: a long short-term memory learns to add two marked numbers out of a sequence of 100 to 110
pairs, after 74,000 training sequences (with --length 500 after 209,000), and then gets 1 of 2,560
test sequences wrong (Hochreiter, Schmidhuber 1997, "Long short-term memory", Neural Computation 9,
experiment 4). The target is .5 + (X1 + X2) / 4 in [0, 1].

As published: two inputs, 2 memory blocks of two cells, one output that reads the cells alone, 93
weights. The task is `rnnjax.tasks.AddingHochreiter1997`. Weights and biases U[-.1, .1], but for the
input gates, whose biases start at -3 and -6. Plain gradient descent on half the squared error of
the last output, one sequence an update, at .5. The gradient is truncated: it goes back in time
through cell states alone. Training ends when the last 2,000 sequences, each judged before its
update, are all correct (an error below .04) and their mean absolute error is below .01; these 2,000
count. Different: the output unit is linear. The text has a logistic one, which squashes the sums
near the ends of the range out of reach of .04; a second set of networks has it, is trained on
--logistic-sequences sequences at most, and does not enter the verdict. The number of sequences is
limited.

Verdict: `reproduced` if every network with a linear output unit meets the stopping rule; the mean
and the median of the sequences they take are within a factor of two of the published number; and
the median network answers at least 99.9 % of its test sequences. Else `not reproduced`;
`inconclusive` for a --length without a published number; `quick run only` if --seeds, --window,
--test-sequences or --max-sequences is below its default.

    python experiments/papers/hs97_adding.py
    python experiments/papers/hs97_adding.py --length 500 --logistic-sequences 0
"""

import dataclasses
import functools

import rnnjax
from rnnjax import experiment, tasks, training
from rnnjax.cells import LSTM1997
from rnnjax.command_line import at_least
from rnnjax.experiment import SeedOptions, Verdict
from rnnjax.experiment.readout import Readout
from rnnjax.initializers import Uniform

import jax
import jax.numpy as jnp
import numpy as np

PUBLISHED = {100: 74_000, 500: 209_000}  # sequences, by length
SOURCE = "published (Hochreiter & Schmidhuber 1997)"
OUTPUTS = {"linear": lambda x: x, "logistic": jax.nn.sigmoid}
LEARNING_RATE, MEAN_ERROR, FACTOR, ANSWERED = 0.5, 0.01, 2, 0.999


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Train networks of 1997 on the adding problem, sequence by sequence.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    length: int = 100
    """Pairs in the shortest sequence; the longest has a tenth more."""
    max_sequences: int = 500_000
    """Training sequences at which a network with a linear output unit is given up."""
    logistic_sequences: int = 200_000
    """Training sequences at which one with a logistic output unit is given up; 0 leaves them
    out."""
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
        at_least(1, self, "window", "test_sequences")
        at_least(self.window, self, "max_sequences")
        if self.logistic_sequences:
            at_least(self.window, self, "logistic_sequences")
        self.make_task()

    def make_task(self):
        known = {"adding": tasks.AddingHochreiter1997}
        return experiment.make_task(known, "adding", length=self.length)

    def make_cell(self):
        input_gates = jax.nn.initializers.constant(np.array([-3.0, -6.0]))
        biases = (input_gates, *[Uniform(0.1)] * 3)  # of input gates, output gates, cells
        return LSTM1997(4, cells_per_block=2, truncated=self.truncated, bias_init=biases)


def init(cell, task, key):
    """Draw the cell, with U[-.1, .1] where `make_cell` says nothing else, and the output unit."""
    keys, outputs = jax.random.split(key, 3), task.output_size
    kernel = Uniform(0.1)(keys[1], (cell.output_size, outputs))
    return Readout(cell.init(keys[0], task.input_size), kernel, Uniform(0.1)(keys[2], (outputs,)))


def apply(cell, output, params, inputs):
    """Return the outputs [T, B, 1] at all steps; that at the last pair is the answer."""
    _, hidden = rnnjax.unroll(cell, params.cell, inputs)
    return OUTPUTS[output](hidden @ params.kernel + params.bias)


def make_train_step(cell, output, task, rule):
    import optax

    optimizer = optax.sgd(LEARNING_RATE)

    def train_step(state, batch):  # of one sequence
        def loss_fn(params):
            outputs = apply(cell, output, params, batch.inputs)
            error = jnp.where(batch.mask[..., None], outputs - batch.targets, 0).sum()
            return error**2 / 2, (outputs, jnp.abs(error))

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


def wrong(config, cell, output, params):
    """Return how many of its fresh test sequences each network gets wrong."""
    task = config.make_task()

    def count(params, batch):
        return jnp.sum(~task.correct(apply(cell, output, params, batch.inputs), batch))

    (fresh,) = experiment.sampled_sets(task, config.members, config.test_sequences)
    return {"wrong": training.over_population(count)(params, fresh)}


def measure(config, run):
    task, cell = config.make_task(), config.make_cell()
    rule = training.StoppingRule(MEAN_ERROR, config.window)
    limits = {"linear": config.max_sequences, "logistic": config.logistic_sequences}
    sample = functools.partial(task.sample, batch_size=1)
    tables, networks = {"learned": [], "error": [], "networks": []}, {}
    for output, most in ((output, most) for output, most in limits.items() if most):
        step, optimizer = make_train_step(cell, output, task, rule)
        state = experiment.start(config, optimizer, functools.partial(init, cell, task))
        state = state._replace(stream=rule.start(config.seeds))
        options = {"output": output}
        result = experiment.train_until(config, run, rule, step, state, sample, most, **options)
        failed = run.cached(output, wrong, config, cell, output, result.state.params)["wrong"]
        learned = tables, config, rule, result, failed, f"{output} output unit"
        networks[output] = experiment.add_learned(*learned)
    if config.length in PUBLISHED:
        ends = [PUBLISHED[config.length]] * 2
        tables["learned"].append({"series": SOURCE, "sequences": ends, "median": [0.0, 1.0]})
    run.write_tables({name: rows for name, rows in tables.items() if rows})
    return {"networks": networks}


def verdict(config, summary):
    if config.length not in PUBLISHED:
        lengths = " and ".join(map(str, PUBLISHED))
        return Verdict.inconclusive(f"published numbers are those of --length {lengths}")
    entry, published = summary["networks"]["linear"], PUBLISHED[config.length]
    taken = experiment.sequences_taken(entry)
    answered = 1 - np.median(entry["wrong"]) / config.test_sequences
    conditions = {
        "every network meets the stopping rule": np.isfinite(taken).all(),
        "the mean is near the published number": near(taken.mean(), published),
        "the median is near the published number": near(np.median(taken), published),
        "the median network answers 99.9 % of its test sequences": answered >= ANSWERED,
    }
    few = "seeds", "window", "test_sequences", "max_sequences"
    return Verdict.judge(conditions).unless_quick(config, *few)


def near(found, published):
    return published / FACTOR <= found <= published * FACTOR


def show(summary):
    experiment.show_learned({f"{of} output": entry for of, entry in summary["networks"].items()})


def draw(run):
    experiment.draw_learned(run, SOURCE, MEAN_ERROR)


run = experiment.Experiment("hs97_adding", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
