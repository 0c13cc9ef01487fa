"""Can a network be prepared for long delays before it trains? By flossing its gradients.

Claim: gradient flossing pushes the leading Lyapunov exponents of a network to zero, by gradient
descent on the mean of lambda_i^2 through QR factorisations. A network that is flossed before
training learns a delayed exclusive or at delays at which the same network without flossing does
not, and its long-term Jacobian is better conditioned (Engelken 2023, "Gradient flossing: improving
gradient descent through dynamic control of Jacobians", arXiv:2312.17306, and its published code).

Every network is trained twice on the same sequences, as drawn and after flossing. As in the code:
tanh units with W ~ N(0, 1/N) and inputs ~ N(0, 1), exponents over steps 17 to 55 of one stream of
bits, 500 updates of flossing, batches of 16, Adam at 1e-3, training gradients clipped at .03.
Smaller: N = 32 and 30 exponents for 80 and 75, sequences of 5 d steps for 300, 2,000 updates for
3,000. The readout starts at N(0, 1/N), and one QR factorisation in two steps leaves exponents as
they are.

Verdict: `reproduced` if, in every cell: at the longest of --delays every flossed network answers
95 % of held-out bits (chance is 50 %) and no other network does; at the shortest all networks do;
on held-out streams the root mean square of the flossed exponents is at most .15 per step in every
network (over 20 steps a factor e^3, where it is e^20 as drawn); and flossing makes the condition
number of every network's Jacobian over 2 d steps, d the longest delay, smaller, among its first
--exponents singular values. Else `not reproduced`; `quick run only` if --steps, --flossing-steps,
--seeds, --features, --exponents or the longest of --delays is below its default.

    python experiments/flossing.py
    python experiments/flossing.py --cells gru ./mine.py:MyCell --delays 5 20 --seeds 4
"""

import dataclasses
import functools

from rnnjax import diagnostics, experiment, regularizers, tasks, training
from rnnjax.cells.initializers import Gaussian
from rnnjax.command_line import ArgumentError, at_least, rising
from rnnjax.diagnostics.jacobians import carry_size
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import label, short_name

import jax
import jax.numpy as jnp
import numpy as np

SOLVED, NEAR_ZERO = 0.95, 0.15
STREAM = {"interval": 2, "transient": 16}  # of 55 steps
CONDITIONS = "as drawn", "flossed"


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks on delayed exclusive or, as drawn and after flossing.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute and a half on two CPU cores.
    """

    cells: tuple[str, ...] = ("elman",)
    delays: tuple[int, ...] = (4, 10)
    """Delays d of y_t = s_{t-d} xor s_{t-2d}, in rising order."""
    exponents: int = 30
    """How many Lyapunov exponents are pushed to zero."""
    flossing_steps: int = 500
    """Updates of flossing before training."""
    features: int = 32
    steps: int = 2000
    """Training updates."""
    batch_size: int = 16
    learning_rate: float = 1e-3
    """Step size of the Adam optimiser, in flossing and in training."""
    clip: float = 0.03
    seeds: int = 3
    snapshots: int = 20
    """How often accuracy is measured during training."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "exponents", "flossing_steps", "snapshots")
        rising(self, "delays")
        if len(self.delays) < 2:
            raise ArgumentError(f"--delays must be two or more, got {self.delays}")
        self.make_task(self.delays[0])
        for name in self.cells:
            carry = jax.eval_shape(functools.partial(self.make_cell(name).initial_carry, (1,)))
            if self.exponents > carry_size(carry, 0):
                limit = f"at most {carry_size(carry, 0)}, the dimensions of the state of {name}"
                raise ArgumentError(f"--exponents must be {limit}; got {self.exponents}")

    def make_cell(self, name, **options):
        drawn = {"kernel_init": Gaussian(), "recurrent_kernel_init": Gaussian()}
        return super().make_cell(name, **(drawn if name == "elman" else {}), **options)

    def make_task(self, delay):
        given = {"delay": delay, "length": 5 * delay}
        return experiment.make_task({"xor": tasks.DelayedXOREngelken2023}, "xor", **given)


def make_train_step(loss_fn, optimizer):
    """Return an update of flossing or of training: `loss_fn(params, batch)` is the method's."""

    def train_step(state, batch):
        loss, gradient = jax.value_and_grad(loss_fn)(state.params, batch)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def floss(config, run, name, drawn):
    """Return all seeds after flossing; heads, and the keys of their training, are those given."""
    import optax

    cell, optimizer = config.make_cell(name), optax.adam(config.learning_rate)
    step = make_train_step(
        lambda params, xs: regularizers.flossing(cell, params, xs, config.exponents, **STREAM),
        optimizer,
    )
    params = experiment.train_and_probe(
        *(config, run, step, experiment.restart(drawn, optimizer, drawn.params.cell)),
        *(lambda params, probe: probe, ()),  # nothing is measured on the way
        sample=lambda key: jax.random.bernoulli(key, shape=(55, 1, 1)).astype(jnp.float32),
        steps=config.flossing_steps,
        **{"cell": name, "phase": "flossing"},
    ).state.params
    return drawn._replace(params=drawn.params._replace(cell=params))


def train(config, run, name, task, state, condition):
    """Return parameters after training, and held-out accuracies `[S]` by update."""
    import optax

    cell, adam = config.make_cell(name), optax.adam(config.learning_rate)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), adam)

    def metrics(params, batch):
        return task.metrics(readout.apply(cell, params, batch.inputs), batch)

    accuracy = training.over_population(lambda params, *, batch: metrics(params, batch)["accuracy"])
    found = experiment.train_and_probe(
        *(config, run),
        make_train_step(lambda params, batch: metrics(params, batch)["loss"], optimizer),
        experiment.restart(state, optimizer),
        lambda params, batch: accuracy(params, batch=batch),
        task.sample(jax.random.fold_in(jax.random.key(config.seed), 1), 64),
        sample=functools.partial(task.sample, batch_size=config.batch_size),
        **{"cell": name, "phase": f"{condition}, d = {task.delay}"},
    )
    return found.state.params, found.observed()


def jacobians(config, cell, task, params):
    """Return what is measured of the Jacobians of networks `[P S]`, on held-out sequences.

    All exponents; ln of the condition number over 2 d steps; and ln of the gradient of the first
    output at the last step, relative to lag 0, at lags up to 2 d.
    """
    inputs = task.sample(jax.random.fold_in(jax.random.key(config.seed), 2), 8).inputs
    lag, last = 2 * task.delay, config.exponents - 1

    def one(params, *, xs):
        found = diagnostics.lyapunov_spectrum(cell, params.cell, xs, transient=16)
        logs = diagnostics.jacobian_singular_values(cell, params.cell, xs, [lag]).log_values[0]
        output = lambda ys: jnp.sum(ys[-1] @ params.kernel[:, 0])
        gradients = diagnostics.gradient_profile(cell, params.cell, xs, output).relative()[:lag]
        condition = jnp.median(logs[:, 0] - logs[:, last])
        return {"exponents": found.exponents.mean(0), "condition": condition, "log": gradients}

    return training.over_population(one)(params, xs=inputs)


def measure(config, run):
    import optax

    tables, cells = {"accuracy": [], "exponents": [], "gradients": []}, {}
    for full_name in config.cells:
        name, cell = short_name(full_name), config.make_cell(full_name)
        task = config.make_task(config.delays[-1])
        drawn = readout.start(config, optax.identity(), cell, task)
        starts = dict(zip(CONDITIONS, (drawn, floss(config, run, full_name, drawn)), strict=True))
        params, accuracy = {name: state.params for name, state in starts.items()}, {}
        for delay in config.delays:
            task, at = config.make_task(delay), accuracy.setdefault(str(delay), {})
            for condition, state in starts.items():
                after, observed = train(config, run, full_name, task, state, condition)
                params[f"{condition}, trained"] = after  # at last at the longest delay
                at[condition] = observed[config.steps].tolist()
                band = diagnostics.quartiles(np.stack([*observed.values()]))
                place = {"panel": f"{label(full_name)}, d = {delay}", "network": condition}
                tables["accuracy"].append(place | {"update": np.array([*observed])} | band)
        everyone = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *params.values())
        found = run.cached(name, jacobians, config, cell, task, everyone)
        found = {key: np.split(a, len(params)) for key, a in found.items()}
        cells[name] = {"accuracy": accuracy, "root_mean_square": {}, "log_condition": {}}
        for i, phase in enumerate(params):
            exponents, place = found["exponents"][i], {"cell": name, "network": phase}
            leading = np.sqrt(np.mean(exponents[:, : config.exponents] ** 2, 1))
            cells[name]["root_mean_square"][phase] = leading.tolist()
            cells[name]["log_condition"][phase] = found["condition"][i].tolist()
            index = {"index": np.arange(1, exponents.shape[1] + 1)}
            tables["exponents"].append(place | index | diagnostics.quartiles(exponents.T))
            if phase in CONDITIONS:
                tables["gradients"].append(place | experiment.profile_rows(found["log"][i]))
        for table, rows in tables.items():
            run.write_table(table, rows)
    return {"cells": cells}


def verdict(config, summary):
    (drawn, flossed), conditions = CONDITIONS, {}
    shortest, longest = config.delays[0], config.delays[-1]
    for cell, entry in summary["cells"].items():
        short, long = (entry["accuracy"][str(d)] for d in (shortest, longest))
        away, log_condition = entry["root_mean_square"], entry["log_condition"]
        pairs = zip(log_condition[drawn], log_condition[flossed], strict=True)
        conditions |= {
            f"{cell}: d = {shortest}, all learn": min(*short[drawn], *short[flossed]) >= SOLVED,
            f"{cell}: d = {longest}, flossed networks learn": min(long[flossed]) >= SOLVED,
            f"{cell}: d = {longest}, no other network does": max(long[drawn]) < SOLVED,
            f"{cell}: flossed exponents are near zero": max(away[flossed]) <= NEAR_ZERO,
            f"{cell}: flossed Jacobians are better conditioned": all(b < a for a, b in pairs),
        }
    small = "steps", "flossing_steps", "seeds", "features", "exponents"
    delays = longest, Config.delays[-1]
    return Verdict.judge(conditions).unless_quick(config, *small, delays=delays)


def show(summary):
    for cell, entry in summary["cells"].items():
        columns = {f"accuracy, d = {d}": of for d, of in entry["accuracy"].items()}
        columns |= {"rms exponent": entry["root_mean_square"], "ln cond.": entry["log_condition"]}
        rows = [
            [name, i, *(of[name][i] for of in columns.values())]
            for name in CONDITIONS
            for i in range(len(entry["log_condition"][name]))
        ]
        experiment.print_table([cell, "seed", *columns], rows)


def draw(run):
    nats, share = "Lyapunov exponent, nats per step", "share of held-out bits answered"
    places = {"xlabel": "training update", "ylabel": share, "level": 0.5}
    experiment.draw_curves(run, "accuracy", "update", "network", panel="panel", **places)
    places = {"xlabel": "index i", "ylabel": nats, "level": 0}
    experiment.draw_curves(run, "exponents", "index", "network", panel="cell", **places)
    places = {"natural_logs": True, "ylabel": "gradient over that at lag 0"}
    experiment.draw_curves(run, "gradients", "lag", "network", panel="cell", **places)


run = experiment.Experiment("flossing", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
