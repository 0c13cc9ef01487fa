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

The file is longer than 200 lines because it builds, names and draws networks of
three kinds.

    python experiments/context_mixing.py
    python experiments/context_mixing.py --networks tcn gru bidirectional_gru --task temporal_order
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.command_line import at_least, distinct
from rnnjax.experiment import TrainingOptions, Verdict
from rnnjax.networks import label, short_name

FORMS = {
    "": "one layer",
    "deep_": "two layers",
    "bidirectional_": "both directions",
    "deep_bidirectional_": "two layers, both directions",
}
RECURRENT = tuple(form + cell for cell in networks.CELLS for form in [*FORMS][:3])
NETWORKS = "tcn", *RECURRENT, "transformer"
TASKS = {
    "adding": tasks.AddingArjovsky2016,
    "adding_hochreiter1997": tasks.AddingHochreiter1997,
    "temporal_order": tasks.TemporalOrder,
}
PHASES = {"before": "before training", "after": "after training"}


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Compare how far back CNN, recurrent networks and Transformer look, before and after training.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about three minutes on two CPU cores.
    """

    networks: tuple[str, ...] = NETWORKS
    """Networks to compare: tcn, transformer, or a cell, alone or after deep_, bidirectional_ or
    deep_bidirectional_; a cell of your own is ./mine.py:MyCell or package.module:MyCell."""
    task: Literal[tuple(TASKS)] = "adding"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn; `adding` is short for `adding_arjovsky2016`."""
    length: int = 100
    """Sequence length T."""
    features: int = 32
    """Hidden units of each layer."""
    blocks: int = 4
    """Blocks of the CNN, kernel size 3: its receptive field is 1 + 4 (2^blocks - 1)."""
    steps: int = 1000
    """Training updates; 0 measures untrained networks only."""
    seeds: int = 2

    fewest_steps: ClassVar[int] = 0

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features", "blocks")
        distinct(self, "networks")
        self.make_task()
        for name in self.networks:
            self.make_model(name)

    def make_task(self):
        return experiment.make_task(TASKS, self.task, length=self.length)

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
    name = short_name(name)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    probe, held_out, lags = data

    xs = jnp.zeros((1, *probe.inputs.shape[2:]))
    state = experiment.start(config, optimizer, lambda key: model.init(key, xs)["params"])
    measure = training.over_population(functools.partial(shares, model, task, lags))
    reach = {"before": record(tables, name, "before", measure(state.params, probe))}
    if config.steps:
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        resumable = training.ResumableTraining.from_config(
            config, run, config.members, network=name
        )
        trained = resumable.train_on_samples(
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
        rows = {"network": network, "phase": phase, "layer": layer}
        rows |= {"lag": np.arange(1, values.shape[1] + 1), **experiment.quantile_band(values)}
        tables.append(rows)
        if layer == "inputs":
            summary["reach"] = experiment.reach(rows)
            nothing = np.isneginf(np.asarray(values)).all((0, 2))
            summary["zero_lags"] = (1 + np.flatnonzero(nothing)).tolist()
    return summary


def measure(config, run):
    task, tables, entries = config.make_task(), [], {}
    sets = experiment.sampled_sets(task, config.members, 32, 512)
    probe, held_out = (jax.vmap(ask)(batch) for batch in sets)
    data = probe, held_out, int(probe.lengths.min())
    for name in config.networks:
        entries[short_name(name)] = train(config, name, data, run, tables)
        run.write_table("shares", tables)
    return {"networks": entries}


def verdict(config, summary):
    wanted, networks = {"tcn", "elman", "transformer"}, summary["networks"]
    if not wanted <= networks.keys():
        return Verdict.inconclusive(f"the rule needs the networks {', '.join(sorted(wanted))}")
    phases = [phase for phase in PHASES if phase in networks["tcn"]]
    field = networks["tcn"]["receptive_field"]
    zeros = [set(networks["tcn"][phase]["zero_lags"]) for phase in phases]
    lags = max([field, *(lag for found in zeros for lag in found)])
    return Verdict.judge(
        {
            "tcn: the gradient is zero exactly beyond the receptive field": all(
                found == set(range(field + 1, lags + 1)) for found in zeros
            ),
            "elman, untrained: the reach is below -3": networks["elman"]["before"]["reach"] < -3,
            "transformer, untrained: the reach is above -1": (
                networks["transformer"]["before"]["reach"] > -1
            ),
        }
    )


def draw(run):
    """Draw the figures of a run from its table."""
    from rnnjax import figures

    table = run.read_table("shares")
    plot = functools.partial(
        figures.curves,
        x="lag",
        xlabel="lag k = T - t (steps before the end)",
        ylabel="share of the gradient",
        natural_logs=True,
    )
    titled = table | {"phase": np.array([PHASES[phase] for phase in table["phase"]])}
    inputs = experiment.select(titled, layer="inputs")
    names: Any = {name: label(name) for name in table["network"].tolist()}
    split = [networks.split(name) for name in inputs["network"]]
    plain = experiment.select(inputs, np.array([not form for form, _ in split]))
    if len(plain["lag"]):
        run.save_figure("inputs", plot(plain, series="network", panel="phase", names=names))
    recurrent = np.array([cell not in ("tcn", "transformer") for _, cell in split])
    forms = experiment.select(inputs, recurrent)
    if len(forms["lag"]):
        places = [place for place, chosen in zip(split, recurrent, strict=True) if chosen]
        forms["form"] = np.array([FORMS[form] for form, _ in places])
        places = zip(places, forms["phase"], strict=True)
        forms["panel"] = np.array([f"{label(cell)}, {phase}" for (_, cell), phase in places])
        run.save_figure("forms", plot(forms, series="form", panel="panel", columns=2))
    for phase in dict.fromkeys(table["phase"].tolist()):
        rows = experiment.select(table, phase=phase)
        rows["layer"] = np.array([layer_name(layer) for layer in rows["layer"]])
        figure = plot(rows, series="layer", panel="network", names=names, columns=4)
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


def show(summary):
    rows = [
        [name, *(entry[key] for key in ("parameters", "loss", "chance"))]
        + [entry[phase]["reach"] if phase in entry else None for phase in PHASES]
        for name, entry in summary["networks"].items()
    ]
    header = ["network", "parameters", "loss", "chance", "reach", "reach, trained"]
    experiment.print_table(header, rows, digits=3)


run = experiment.Experiment("context_mixing", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
