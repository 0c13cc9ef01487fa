"""How far back does an answer look? CNN, recurrent networks and Transformer under one microscope.

Claim: the gradient of a last answer with respect to the input at lag k, x_{T-k}, is exactly zero
beyond a causal CNN's receptive field, falls exponentially in an untrained recurrent network, and
stays level in a causal Transformer, at any lag. Training moves the gated networks' horizon, but not
the CNN's. A second layer does not save an Elman network; a second direction reads the beginning
last, so to it the beginning is near. (Bai, Kolter, Koltun 2018; Bengio, Simard, Frasconi 1994;
Vaswani et al. 2017.)

Each network reads a whole sequence and answers once; the figures show ||dL/dx_{T-k}|| for a
sequence's own loss, and the same for the state of every layer, as a share of what all steps get.
The reach is log10 of the median share at the earliest tenth of lags over that at the latest tenth.

Verdict: `reproduced` if, before and after training, the CNN's gradient is zero at every lag beyond
its receptive field and not zero at its last one; the untrained Elman network's reach is below -3;
and the untrained Transformer's is above -1. Else `not reproduced`.

    python experiments/context_mixing.py
    python experiments/context_mixing.py --networks tcn gru bidirectional_gru --task temporal_order
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics, experiment, tasks, training
from rnnjax.command_line import ArgumentError, at_least, main, positive
from rnnjax.experiment import RunOptions, in_run
from rnnjax.networks import CELLS

FORMS = {"": "one layer", "deep_": "two layers", "bidirectional_": "both directions"}
RECURRENT = tuple(form + cell for cell in CELLS for form in FORMS)
NETWORKS = "tcn", *RECURRENT, "transformer"
TASKS = {
    "adding": tasks.AddingArjovsky2016,
    "adding_hochreiter1997": tasks.AddingHochreiter1997,
    "temporal_order": tasks.TemporalOrder,
}
PHASES = {"before": "before training", "after": "after training"}
PRINTED = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}
NAMES = {"tcn": "causal CNN", "transformer": "Transformer", **PRINTED} | {
    form + cell: f"{form.rstrip('_')} {name}".strip()
    for cell, name in PRINTED.items()
    for form in FORMS
}


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Compare how far back CNN, recurrent networks and Transformer look, before and after training.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about three minutes on two CPU cores.
    """

    networks: tuple[Literal[NETWORKS], ...] = NETWORKS  # pyright: ignore
    """Which networks to compare."""
    task: Literal[tuple(TASKS)] = "adding"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn; `adding` is short for `adding_arjovsky2016`."""
    length: int = 100
    """Sequence length T."""
    features: int = 32
    """Hidden units of each layer."""
    blocks: int = 4
    """Blocks of the CNN, kernel size 3: its receptive field is 1 + 4 (2^blocks - 1)."""
    steps: int = 1000
    """Training updates; 0 measures untrained networks alone."""
    batch_size: int = 32
    """Sequences in an update."""
    learning_rate: float = 3e-3
    """Of Adam."""
    clip: float = 1.0
    """Largest global norm of the gradient; the metrics record the norm before clipping."""
    seeds: int = 2
    """Networks of each kind, all in one program."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    record_every: int = 10
    """Updates between two entries of metrics.jsonl."""

    def __post_init__(self):
        at_least(1, self, "features", "blocks", "batch_size", "seeds", "record_every")
        at_least(0, self, "steps", "seed")
        positive(self, "learning_rate", "clip")
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise ArgumentError(f"--networks must name some of {', '.join(NETWORKS)}, each once")
        self.make_task()
        for name in self.networks:
            self.make_model(name)

    def make_task(self):
        try:
            return TASKS[self.task](length=self.length)
        except ValueError as error:
            raise ArgumentError(f"--{error}") from None

    def make_model(self, name):
        """Return the network: a layer, read at its end by a linear head."""
        from rnnjax.layers import TCN, LinearHead
        from rnnjax.models import ManyToOne

        task = self.make_task()
        if name == "tcn":
            layer: Any = TCN(self.features, num_blocks=self.blocks)
        else:
            window = task.total_length
            layer = experiment.make_layer("--networks", name, self.features, window=window)
        return ManyToOne(layer, LinearHead(task.output_size))


class Question(NamedTuple):
    """Sequences that are answered once: batch-major inputs, their ends, and how to score."""

    inputs: Any  # [B, T, D]
    lengths: Any  # [B]
    answer: tasks.Batch  # T = 1


def ask(batch):
    lengths, answer = tasks.last_answer(batch)
    return Question(jnp.swapaxes(batch.inputs, 0, 1), lengths, answer)


def make_train_step(model, task, optimizer):
    def train_step(state, question):
        def loss_fn(params):
            ys = model.apply({"params": params}, question.inputs, seq_lengths=question.lengths)
            return task.loss(ys[None], question.answer)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


@jax.default_matmul_precision("float32")
def shares(model, task, lags, params, question):
    """Return by layer ln of each lag's share of the gradient, `[K, B]`, entry k - 1 at lag k."""

    def loss(ys):
        return task.example_losses(ys[None], question.answer).sum()

    found = diagnostics.log_gradient_by_layer(
        model, {"params": params}, loss, question.inputs, seq_lengths=question.lengths
    )
    rows = {n: diagnostics.by_lag(p, question.lengths, lags) for n, p in found.items()}
    return {n: p - jax.nn.logsumexp(2 * p, axis=0) / 2 for n, p in rows.items()}


def train(config, name, data, run, tables):
    """Train all seeds of a network, add to the numbers behind the figures; return its summary."""
    import optax

    task, model = config.make_task(), config.make_model(name)
    seeds = list(range(config.seed, config.seed + config.seeds))
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    probe, held_out, lags = data

    def start(key):
        init_key, data_key = jax.random.split(key)
        xs = jnp.zeros((1, *probe.inputs.shape[2:]))
        params = model.init(init_key, xs)["params"]
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key)

    state = training.over_population(start)(jnp.stack([jax.random.key(s) for s in seeds]))
    measure = training.over_population(functools.partial(shares, model, task, lags))
    reach = {"before": record(tables, name, "before", measure(state.params, probe))}
    if config.steps:
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        trained = training.ResumableTraining.from_config(
            config, run, seeds, network=name
        ).train_on_samples(
            make_train_step(model, task, optimizer),
            state,
            lambda key: ask(sample(key)),
            steps=config.steps,
            chunk_size=-(-config.steps // 10),
        )
        state = trained.state
        reach["after"] = record(tables, name, "after", measure(state.params, probe))

    def evaluate(params, question):
        ys = model.apply({"params": params}, question.inputs, seq_lengths=question.lengths)
        return task.loss(ys[None], question.answer)

    losses = np.asarray(training.over_population(evaluate)(state.params, held_out))
    sizes = jax.tree.map(lambda p: p[0].size, state.params)
    entry = {"parameters": sum(jax.tree.leaves(sizes)), "loss": float(np.median(losses))}
    entry |= {"chance": task.chance, "loss_of_seeds": losses.tolist()}
    if name == "tcn":
        entry["receptive_field"] = model.layer.receptive_field
    return entry | reach


def record(tables, network, phase, found):
    """Add shares `[S, K, B]` by layer to the table; return the reach and the lags without any."""
    summary = {}
    for layer, values in found.items():
        values = np.moveaxis(np.asarray(values), 1, 0).reshape(values.shape[1], -1)  # [K, S * B]
        rows = {"network": network, "phase": phase, "layer": layer}
        rows |= {"lag": np.arange(1, len(values) + 1), **diagnostics.quartiles(values)}
        tables.append(rows)
        if layer == "inputs":
            tenth, middle = max(1, len(values) // 10), rows["median"] / np.log(10)
            summary["reach"] = float(np.median(middle[-tenth:]) - np.median(middle[:tenth]))
            summary["zero_lags"] = (1 + np.flatnonzero(np.isneginf(values).all(1))).tolist()
    return summary


def measure(config, run):
    task, tables, networks = config.make_task(), [], {}
    keys = [jax.random.key(s) for s in range(config.seed, config.seed + config.seeds)]
    keys = jnp.stack([jax.random.split(jax.random.fold_in(key, 1)) for key in keys])
    probe, held_out = (
        training.over_population(lambda key, n=size: ask(task.sample(key, n)))(keys[:, i])
        for i, size in enumerate((32, 512))
    )
    data = probe, held_out, int(probe.lengths.min())
    for name in config.networks:
        networks[name] = train(config, name, data, run, tables)
        run.write_table("shares", tables)
    summary = {"networks": networks, "verdict": verdict(networks)}
    print_summary(summary)
    return summary


def verdict(networks):
    wanted = {"tcn", "elman", "transformer"}
    if not wanted <= networks.keys():
        return f"not judged: it takes the networks {', '.join(sorted(wanted))}"
    phases = [phase for phase in PHASES if phase in networks["tcn"]]
    field = networks["tcn"]["receptive_field"]
    zeros = [set(networks["tcn"][phase]["zero_lags"]) for phase in phases]
    lags = max([field, *(lag for found in zeros for lag in found)])
    exact = all(found == set(range(field + 1, lags + 1)) for found in zeros)
    vanishes = networks["elman"]["before"]["reach"] < -3
    level = networks["transformer"]["before"]["reach"] > -1
    return "reproduced" if exact and vanishes and level else "not reproduced"


def draw(run):
    """Draw the figures of a run from its table."""
    from rnnjax import figures

    table = run.read_table("shares")
    plot = functools.partial(
        figures.curves,
        x="lag",
        xlabel="lag k (steps back from the end)",
        ylabel="share of the gradient",
        natural_logs=True,
    )
    titled = table | {"phase": np.array([PHASES[phase] for phase in table["phase"]])}
    inputs = choose(titled, table["layer"] == "inputs")
    main = choose(inputs, np.isin(inputs["network"], ["tcn", *CELLS, "transformer"]))
    if len(main["lag"]):
        run.save_figure("inputs", plot(main, series="network", panel="phase", names=NAMES))
    forms = choose(inputs, np.isin(inputs["network"], RECURRENT))
    if len(forms["lag"]):
        split = [name.rpartition("_") for name in forms["network"]]
        forms["form"] = np.array([FORMS[form + line] for form, line, _ in split])
        places = zip(split, forms["phase"], strict=True)
        forms["panel"] = np.array([f"{PRINTED[cell]}, {phase}" for (*_, cell), phase in places])
        run.save_figure("forms", plot(forms, series="form", panel="panel", columns=2))
    for phase in dict.fromkeys(table["phase"].tolist()):
        rows = choose(table, table["phase"] == phase)
        rows["layer"] = np.array([layer_name(layer) for layer in rows["layer"]])
        figure = plot(rows, series="layer", panel="network", names=NAMES, columns=4)
        run.save_figure(f"layers_{phase}", figure)


def layer_name(path):
    """Return what is written for `layer/layers_1/carry`: layer 2."""
    if path == "inputs":
        return path
    number = [
        int(p.split("_")[1]) + 1 for p in path.split("/") if p.startswith(("layers_", "block_"))
    ]
    ends = [p.split("_")[0] for p in path.split("/") if p.endswith("_rnn")]
    return " ".join([f"layer {number[0] if number else 1}", *ends])


def choose(table, rows):
    return {name: column[rows] for name, column in table.items()}


def print_summary(summary):
    print(f"{'network':20}{'parameters':>12}{'loss':>10}{'chance':>10}{'reach':>10}{'trained':>10}")
    for name, entry in summary["networks"].items():
        reach = "".join(f"{entry[p]['reach']:10.3g}" for p in PHASES if p in entry)
        numbers = f"{entry['parameters']:12}{entry['loss']:10.3g}{entry['chance']:10.3g}"
        print(f"{name:20}{numbers}{reach}")
    print(f"Verdict: {summary['verdict']}")


def run(config: Config) -> dict[str, Any]:
    """Run the experiment and return its summary."""
    return in_run("context_mixing", config, functools.partial(measure, config), draw)


if __name__ == "__main__":
    main(Config, run)
