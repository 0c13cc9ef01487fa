"""Memory is not state tracking: what linear cells gain in gradients, and what they give up.

Claim: cells whose next state is linear in the state, with factors between 0 and 1 (minGRU, mLSTM),
keep the gradient over a whole sequence and add two numbers far apart as an LSTM does, where an
Elman network forgets. But they cannot track a state: the parity of strings longer than those of
training stays unknown to them, not to a nonlinear recurrence (LSTM, GRU, sLSTM). (Merrill et al.
2024, arXiv:2404.08819; Grazzi et al. 2024, arXiv:2411.12537; Beck et al. 2024, arXiv:2405.04517.)

Every cell stands in the same network of --parameters parameters: two residual blocks (norm, cell,
gated perceptron), read at the end by a linear head; the Transformer has attention in the cell's
place. Measured: each lag's share of the gradient of a sequence's own loss with respect to its
inputs, ||dL/dx_{T-k}||, before and after training; the half-life of the exponential fitted to its
median; and the held-out loss, for strings of twice the longest length of training.

Verdict: `reproduced` if Elman does not solve adding, every linear cell with positive factors among
--networks does, no seed of these solves the second task, and an LSTM, GRU or sLSTM does. To solve
a task is to pass its own rule with three quarters of the seeds or more. `inconclusive` without one
network of each kind; `quick run only` if an option that sets a size is below its default.

    python experiments/modern_gradients.py
    python experiments/modern_gradients.py --networks residual_lstm residual_./mine.py:MyCell
"""

import dataclasses
import functools
import itertools
from typing import ClassVar, Literal

from rnnjax import diagnostics, experiment, networks, tasks, training
from rnnjax.command_line import at_least, distinct
from rnnjax.experiment import PHASES, TrainingOptions, Verdict

import jax
import jax.numpy as jnp

CELLS = "elman", "lstm", "gru", "slstm", "lru", "mingru", "mlstm", "deltanet"
NETWORKS = *(f"residual_{cell}" for cell in CELLS), "transformer"
GATED = {f"residual_{cell}" for cell in ("lstm", "gru", "slstm")}
POSITIVE = {f"residual_{cell}" for cell in ("mingru", "minlstm", "rglru", "mlstm", "gla", "mamba2")}
TRACKING = {"parity": tasks.Parity, "S3": tasks.WordProblem}


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Compare what cells of four decades do to the gradient, and which tasks that lets them learn.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes twenty minutes on two CPU cores.
    """

    networks: tuple[str, ...] = NETWORKS
    """Networks to compare: transformer, tcn, or a cell, alone or after residual_, deep_ or
    bidirectional_; a cell of your own is ./mine.py:MyCell or package.module:MyCell."""
    tracking: Literal[tuple(TRACKING)] = "parity"  # pyright: ignore[reportInvalidTypeForm]
    """The task that needs a state: parity, or a product of permutations."""
    length: int = 50
    """Sequence length T of the adding problem."""
    string_length: int = 20
    """The longest strings that parity is trained on; it is tested at twice this length."""
    parameters: int = 30_000
    """Parameters of each network: its width is the multiple of 4 that comes nearest."""
    steps: int = 1500
    seeds: int = 2
    snapshots: ClassVar[int] = 1  # in the end

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "length", "string_length")
        at_least(1000, self, "parameters")
        distinct(self, "networks")
        for name in self.networks:
            self.make_model(name, tasks.Parity(), 4)

    def make_tasks(self):
        """Return by name the task to train on, to probe with, and to test on."""
        adding, longest = tasks.AddingArjovsky2016(self.length), self.string_length
        kind = TRACKING[self.tracking]
        strings = kind(longest, shortest=1), kind(longest), kind(2 * longest)
        return {"adding": 3 * (adding,), self.tracking: strings}

    def make_model(self, name, task, width):
        where = "--networks", name, width, task.output_size
        return experiment.many_to_one(*where, window=max(self.length, 2 * self.string_length))


def outputs(model, params, question):
    ys = model.apply({"params": params}, question.inputs, seq_lengths=question.lengths)
    return ys[None]  # at the one step that is scored


def make_train_step(model, task, optimizer):
    def train_step(state, batch):
        question = tasks.ask(batch)

        def loss_fn(params):
            return task.loss(outputs(model, params, question), question.answer)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


@jax.default_matmul_precision("float32")
def shares(model, task, params, question):
    """Return ln of each lag's share of the gradient of the inputs, `[T, B]`, lag 1 first."""

    def each_loss(ys):
        return task.example_losses(ys[None], question.answer).sum()

    where = model, {"params": params}, each_loss, question.inputs
    found = diagnostics.log_gradient_by_layer(*where)["inputs"]
    return found[::-1] - jax.nn.logsumexp(2 * found, axis=0) / 2


def metrics(model, task, params, question):
    return task.metrics(outputs(model, params, question), question.answer)


def measure(config, run):
    import optax

    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer, gradients, losses, entries = optax.chain(clip, adam), [], [], {}
    pairs = itertools.product(config.networks, config.make_tasks().items())
    for full_name, (task_name, (task, probed, tested)) in pairs:
        labels = {"network": networks.short_name(full_name), "task": task_name}
        make_model = functools.partial(config.make_model, full_name, task)
        model = experiment.model_of_size(make_model, task.input_size, config.parameters)
        look = training.over_population(functools.partial(shares, model, task))
        sets = [experiment.sampled_sets(t, config.members, 256)[0] for t in (probed, tested)]
        probe, test = map(jax.vmap(tasks.ask), sets)
        step = make_train_step(model, task, optimizer)
        state = experiment.start_model(config, optimizer, model, task.input_size)
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        trained = experiment.train_and_probe(
            config, run, step, state, look, probe, sample=sample, **labels
        )
        params, tried = trained.state.params, functools.partial(metrics, model, tested)
        entry = experiment.score(tested, tried, params, test)
        entry["parameters"] = experiment.parameter_count(params)
        for phase, values in zip(("before", "after"), trained.observed().values(), strict=True):
            band = experiment.profile_rows(values)
            entry[f"half_life_{phase}"] = float(diagnostics.half_life(jnp.array(band["median"])))
            gradients.append({**labels, "panel": f"{task_name}, {PHASES[phase]}", **band})
        entries.setdefault(labels["network"], {})[task_name] = entry
        losses.append({**labels, **experiment.relative_loss(entry)})
        run.write_tables({"gradients": gradients, "losses": losses})
    return {"tracking": config.tracking, "networks": entries}


def verdict(config, summary):
    entries, tracking, elman = summary["networks"], config.tracking, "residual_elman"
    linear, gated = sorted(POSITIVE & entries.keys()), sorted(GATED & entries.keys())
    if not (linear and gated and elman in entries):
        return Verdict.inconclusive("the rule compares Elman with a gated and a linear cell")
    success = {n: {task: e[task]["success"] for task in e} for n, e in entries.items()}
    conditions = {f"{elman} does not solve adding": success[elman]["adding"] < 0.75}
    for name in linear:
        conditions[f"{name} solves adding"] = success[name]["adding"] >= 0.75
        conditions[f"{name}: no seed solves {tracking}"] = success[name][tracking] == 0
    best = max(success[name][tracking] for name in gated)
    conditions[f"a gated cell solves {tracking}"] = best >= 0.75
    sizes = "steps", "seeds", "parameters", "length", "string_length"
    return Verdict.judge(conditions).unless_quick(config, *sizes)


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table, losses = run.read_table("gradients"), run.read_table("losses")
    names = {name: networks.label(name) for name in table["network"].tolist()}
    look = {"panel": "panel", "columns": 2, "names": names}
    experiment.draw_shares(run, "gradients", "network", table=table, **look)
    for task in dict.fromkeys(losses["task"].tolist()):
        after = experiment.select(table, panel=f"{task}, {PHASES['after']}")
        where, metric = (experiment.select(losses, task=task), after), f"{task}: loss over chance"
        labels = {"metric": metric, "baseline": "chance", "names": names}
        run.save_figure(task, figures.comparison(*where, **labels))


def show(summary):
    columns = "parameters", "half_life_before", "half_life_after", "final_loss", "chance", "success"
    rows = [
        [name, task, *(entry[task][column] for column in columns)]
        for task in ("adding", summary["tracking"])
        for name, entry in summary["networks"].items()
    ]
    experiment.print_table(["network", "task", *columns], rows, digits=3)


run = experiment.Experiment("modern_gradients", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
