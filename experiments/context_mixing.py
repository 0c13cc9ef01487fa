"""How far back does an answer look? CNN, recurrent networks and Transformer under one microscope.

Claim: the gradient of a last answer with respect to the input at lag k, x_{T-k}, is exactly zero
beyond a causal CNN's receptive field, falls exponentially in an untrained recurrent network, and
stays level in a causal Transformer. Training moves the horizon of gated networks, not the CNN's. A
second layer does not save an Elman network; a second direction reads the beginning last, so to it
the beginning is near. (Bengio, Simard, Frasconi 1994; Vaswani et al. 2017; Bai et al. 2018.)

Each network reads a whole sequence and answers once; the figures show ||dL/dx_{T-k}|| for a
sequence's own loss, and the same for the state of every layer, as a share of what all steps get.
The reach is log10 of the median share at the earliest tenth of lags over that at the latest tenth.

Verdict: `reproduced` if, before and after training, the CNN's gradient is zero at every lag beyond
its receptive field and not zero at its last one; the untrained Elman network's reach is below -3;
and the untrained Transformer's is above -1. Else `not reproduced`; `inconclusive` without one of
these three; `quick run only` if --steps, --seeds, --features or --length is below its default.

    python experiments/context_mixing.py
    python experiments/context_mixing.py --networks tcn gru bidirectional_gru --task temporal_order
"""

import dataclasses
import functools
from typing import ClassVar, Literal

from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.command_line import at_least, distinct
from rnnjax.experiment import PHASES, TrainingOptions, Verdict, draw_shares
from rnnjax.networks import FORM_LABELS

import jax
import jax.numpy as jnp
import numpy as np

FORMS = "", "deep_", "bidirectional_"
NETWORKS = "tcn", *(form + cell for cell in networks.CELLS for form in FORMS), "transformer"
TASKS = {
    "adding": tasks.AddingArjovsky2016,
    "adding_hochreiter1997": tasks.AddingHochreiter1997,
    "temporal_order": tasks.TemporalOrder,
}


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Compare how far back CNN, recurrent networks and Transformer look, before and after training.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about three minutes on two CPU cores.
    """

    networks: tuple[str, ...] = NETWORKS
    """Networks to compare: tcn, transformer, or a cell, alone or after deep_, bidirectional_,
    deep_bidirectional_ or residual_; a cell of your own is ./mine.py:MyCell or
    package.module:MyCell."""
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
    snapshots: ClassVar[int] = 1  # in the end

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
        task = self.make_task()
        options = {"window": task.total_length, "blocks": self.blocks}
        where = "--networks", name, self.features, task.output_size
        return experiment.many_to_one(*where, **options)


def loss(model, task, params, question):
    ys = model.apply({"params": params}, question.inputs, seq_lengths=question.lengths)
    return task.loss(ys[None], question.answer)


def make_train_step(model, task, optimizer):
    def train_step(state, batch):
        loss_fn = functools.partial(loss, model, task)
        value, gradient = jax.value_and_grad(loss_fn)(state.params, tasks.ask(batch))
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": value, "grad_norm": norm}

    return train_step


@jax.default_matmul_precision("float32")
def shares(model, task, lags, params, question):
    """Return by layer ln of each lag's share of the gradient, `[K, B]`, entry k - 1 at lag k."""

    def each_loss(ys):
        return task.example_losses(ys[None], question.answer).sum()

    where = model, {"params": params}, each_loss, question.inputs
    found = diagnostics.log_gradient_by_layer(*where, seq_lengths=question.lengths)
    rows = {n: diagnostics.by_lag(p, question.lengths, lags) for n, p in found.items()}
    return {n: p - jax.nn.logsumexp(2 * p, axis=0) / 2 for n, p in rows.items()}


def measure(config, run):
    import optax

    task, tables, entries = config.make_task(), [], {}
    sets = experiment.sampled_sets(task, config.members, 32, 512)
    probe, held_out = (jax.vmap(tasks.ask)(batch) for batch in sets)
    lags, xs = int(probe.lengths.min()), jnp.zeros((1, *probe.inputs.shape[2:]))
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    for full_name in config.networks:
        model, name = config.make_model(full_name), networks.short_name(full_name)
        state = experiment.start(config, optimizer, lambda key, m=model: m.init(key, xs)["params"])
        step = make_train_step(model, task, optimizer)
        look = training.over_population(functools.partial(shares, model, task, lags))
        trained = experiment.train_and_probe(
            config, run, step, state, look, probe, sample=sample, network=name
        )
        params = trained.state.params
        losses = training.over_population(functools.partial(loss, model, task))(params, held_out)
        entries[name] = {
            "parameters": experiment.parameter_count(params),
            "loss": float(np.median(losses)),
            "chance": task.chance,
            "loss_of_seeds": losses.tolist(),
            **({"receptive_field": model.layer.receptive_field} if name == "tcn" else {}),
        }
        for phase, found in zip(("before", "after"), trained.observed().values(), strict=False):
            entries[name][phase] = experiment.record_shares(tables, name, phase, found)
        run.write_table("shares", tables)
    return {"networks": entries}


def verdict(config, summary):
    wanted, networks = {"tcn", "elman", "transformer"}, summary["networks"]
    if not wanted <= networks.keys():
        return Verdict.inconclusive(f"the rule needs the networks {', '.join(sorted(wanted))}")
    field = networks["tcn"]["receptive_field"]
    untrained = {name: networks[name]["before"]["reach"] for name in wanted}
    zeros = [set(networks["tcn"][p]["zero_lags"]) for p in PHASES if p in networks["tcn"]]
    beyond = set(range(field + 1, 1 + max([field, *set.union(*zeros)])))
    exact = all(found == beyond for found in zeros)
    conditions = {
        "tcn: the gradient is zero exactly beyond the receptive field": exact,
        "elman, untrained: the reach is below -3": untrained["elman"] < -3,
        "transformer, untrained: the reach is above -1": untrained["transformer"] > -1,
    }
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features", "length")


def draw(run):
    """Draw the figures of a run from its table."""
    table = run.read_table("shares")
    names = {name: networks.label(name) for name in table["network"].tolist()}
    inputs = experiment.select(table, layer="inputs")
    form, cell = np.array([networks.split(name) for name in inputs["network"]]).T
    plain = experiment.select(inputs, form == "")
    draw_shares(run, "inputs", "network", table=plain, panel="phase", names=names | PHASES)
    pairs = zip(cell, inputs["phase"], strict=True)
    panels = np.array([f"{networks.label(cell)}, {PHASES[phase]}" for cell, phase in pairs])
    recurrent = ~np.isin(cell, ("tcn", "transformer"))
    forms = experiment.select(inputs | {"form": form, "panel": panels}, recurrent)
    draw_shares(run, "forms", "form", table=forms, panel="panel", columns=2, names=FORM_LABELS)
    experiment.draw_layers(run, table, names=names, columns=4)


def show(summary):
    rows = []
    for name, entry in summary["networks"].items():
        reach = [entry[phase]["reach"] if phase in entry else None for phase in ("before", "after")]
        rows.append([name, entry["parameters"], entry["loss"], entry["chance"], *reach])
    header = ["network", "parameters", "loss", "chance", "reach", "reach, trained"]
    experiment.print_table(header, rows, digits=3)


run = experiment.Experiment("context_mixing", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
