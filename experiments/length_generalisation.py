"""What a network has learned shows at lengths it has never seen: accuracy against length.

Claim: trained on short strings, networks with a nonlinear recurrence (Elman, LSTM) answer strings
many times as long, because they have learned the automaton; a linear cell with factors between 0
and 1 (minGRU) and a Transformer fit at most the lengths of training. Eigenvalues of -1 (DeltaNet)
may help. (Deletang et al. 2023, arXiv:2207.02098; Grazzi et al. 2024, arXiv:2411.12537.)

Each network learns one task at lengths up to --length: strings of all lengths from 1, other tasks
as they are. Measured at each of --lengths, on sequences never trained on: the share of sequences
that are correct by the task's rule; and each lag's share of the gradient of the loss at a
sequence's last scored step with respect to the inputs, ||dL/dx_{T-k}||.

Verdict, for parity, cycle_navigation, S3 and A5: `reproduced` if at the longest of --lengths the
median over seeds is above 0.95 for an Elman, LSTM, GRU or sLSTM network, and nearer to guessing
than to 1 for minGRU and for the Transformer. `inconclusive` without these, for other tasks, or if
the longest is below five times --length; `quick run only` with sizes below their defaults.

    python experiments/length_generalisation.py
    python experiments/length_generalisation.py --task S3 --networks residual_deltanet lstm
"""

import dataclasses
import functools
from typing import ClassVar, Literal

from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.command_line import at_least, distinct
from rnnjax.experiment import TrainingOptions, Verdict

import jax
import jax.numpy as jnp
import numpy as np

CELLS = "elman", "lstm", "gru", "mingru", "deltanet"
NETWORKS = *(f"residual_{cell}" for cell in CELLS), "transformer"
NONLINEAR = {
    form + cell for form in ("", "residual_") for cell in ("elman", "lstm", "gru", "slstm")
}
GROUPS = "parity", "cycle_navigation", "S3", "A5"
TASKS = {
    "parity": tasks.Parity,
    "even_pairs": tasks.EvenPairs,
    "cycle_navigation": tasks.CycleNavigation,
    "modular_arithmetic": tasks.ModularArithmetic,
    "S3": functools.partial(tasks.WordProblem, group="S3"),
    "A5": functools.partial(tasks.WordProblem, group="A5"),
    "selective_copy": tasks.SelectiveCopy,
    "variable_copy": tasks.VariableCopy,
    "associative_recall": tasks.AssociativeRecall,
    "delayed_xor": tasks.DelayedXOR,
}


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Train networks on short sequences, and test them on longer and longer ones.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about five minutes on two CPU cores.
    """

    networks: tuple[str, ...] = NETWORKS
    """Networks to compare: transformer, tcn, or a cell, alone or after residual_ or deep_."""
    task: Literal[tuple(TASKS)] = "parity"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn."""
    length: int = 20
    """The longest sequences to train on."""
    lengths: tuple[int, ...] = (20, 40, 60, 80, 100)
    """Lengths to test at."""
    features: int = 32
    """Hidden units of each layer."""
    steps: int = 1500
    seeds: int = 2
    snapshots: ClassVar[int] = 1  # in the end

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")
        distinct(self, "networks", "lengths")
        for name in self.networks:
            self.make_model(name)

    def make_task(self, length):
        return experiment.make_task(TASKS, self.task, length=length)

    def make_model(self, name):
        variants = [self.make_task(length) for length in (self.length, *self.lengths)]
        where = "--networks", name, self.features, variants[0].output_size
        return experiment.many_to_many(*where, window=max(v.total_length for v in variants))


def outputs(model, params, inputs):
    return jnp.swapaxes(model.apply({"params": params}, jnp.swapaxes(inputs, 0, 1)), 0, 1)


def make_train_step(model, task, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(outputs(model, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


@jax.default_matmul_precision("float32")
def measured(model, task, params, tests):
    """Return for N lengths the share of correct sequences, ln ||dL/dx_t|| `[T, B]`, and the T."""

    def at_one_length(batch):
        lengths, answer = tasks.last_answer(batch)

        def each_loss(ys):
            last = jnp.take_along_axis(ys, lengths[:, None, None] - 1, axis=1)
            return task.example_losses(jnp.swapaxes(last, 0, 1), answer).sum()

        where = model, {"params": params}, each_loss, jnp.swapaxes(batch.inputs, 0, 1)
        gradients = diagnostics.log_gradient_by_layer(*where)["inputs"]
        correct = task.correct(outputs(model, params, batch.inputs), batch)
        return correct.mean(), gradients, lengths

    return jax.lax.map(at_one_length, tests)


def measure(config, run):
    import optax

    task, accuracies, gradients, entries = config.make_task(config.length), [], [], {}
    if isinstance(task, tasks.Language):
        task = dataclasses.replace(task, shortest=1)  # strings of all lengths up to the longest
    tested = [config.make_task(length) for length in config.lengths]
    tests = experiment.padded_sets(tested, config.members, 256)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    for full_name in config.networks:
        model, name = config.make_model(full_name), networks.short_name(full_name)
        step = make_train_step(model, task, optimizer)
        state = experiment.start_model(config, optimizer, model, task.input_size)
        look = training.over_population(functools.partial(measured, model, task))
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        trained = experiment.train_and_probe(
            config, run, step, state, look, tests, sample=sample, network=name
        )
        shares, profiles, ends = trained.observed()[config.steps]
        for n, length in enumerate(config.lengths):
            labels = {"network": name, "length": length}
            accuracies.append({**labels, **diagnostics.quartiles(shares[:, n])})
            parts = experiment.gradient_table({"inputs": profiles[:, n]}, ends[:, n])
            gradients += [{**part, **labels} for part in parts]
        count = experiment.parameter_count(trained.state.params)
        by_length = dict(zip(map(str, config.lengths), shares.T.tolist(), strict=True))
        entries[name] = {"parameters": count, "accuracy": by_length}
        run.write_tables({"accuracy": accuracies, "gradients": gradients})
    return {"guess": 1 / task.output_size, "networks": entries}


def verdict(config, summary):
    longest, entries = max(config.lengths), summary["networks"].items()
    last = {name: float(np.median(entry["accuracy"][str(longest)])) for name, entry in entries}
    failing = [name for name in ("residual_mingru", "transformer") if name in last]
    nonlinear = [last[name] for name in sorted(NONLINEAR & last.keys())]
    if config.task not in GROUPS or longest < 5 * config.length:
        return Verdict.inconclusive("the rule is for groups, at five times the trained length")
    if len(failing) < 2 or not nonlinear:
        return Verdict.inconclusive("the rule compares minGRU, Transformer and a nonlinear cell")
    middle = (1 + summary["guess"]) / 2
    conditions = {"a nonlinear recurrence is above 0.95": max(nonlinear) > 0.95}
    conditions |= {f"{name} is nearer to guessing": last[name] < middle for name in failing}
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features", "length")


def draw(run):
    """Draw the figures of a run from its tables."""
    table, gradients = run.read_table("accuracy"), run.read_table("gradients")
    names = {name: networks.label(name) for name in table["network"].tolist()}
    labels = {"xlabel": "length", "ylabel": "sequences that are correct", "ylim": (-0.02, 1.02)}
    labels["places"] = {float(run.read_json("config.json")["length"]): "longest in training"}
    experiment.draw_curves(run, "accuracy", "length", "network", names=names, **labels)
    look = {"panel": "network", "columns": 3, "label_format": "T = {:g}", "names": names}
    experiment.draw_shares(run, "gradients", "length", table=gradients, **look)


def show(summary):
    entries, rows = summary["networks"], []
    for name, entry in entries.items():
        rows.append([name, entry["parameters"], *map(np.median, entry["accuracy"].values())])
    lengths = next(iter(entries.values()))["accuracy"]
    experiment.print_table(["network", "parameters", *lengths], rows, digits=3)


run = experiment.Experiment("length_generalisation", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
