"""Can a network be prepared for long delays before it trains? By flossing its gradients.

Claim: gradient flossing pushes the leading Lyapunov exponents of a network to zero, by gradient
descent on the mean of lambda_i^2 through QR factorisations. A network that is flossed before
training learns a delayed exclusive or at delays at which the same network without flossing does
not, and its long-term Jacobian is better conditioned (Engelken 2023, "Gradient flossing: improving
gradient descent through dynamic control of Jacobians", arXiv:2312.17306, and its published code).

Every network is trained as it is drawn and after flossing, on the same sequences. As in the code:
80 tanh units, W ~ N(0, 1/N), inputs ~ N(0, 1), 75 exponents over steps 17 to 55 of random bits,
batches of 16, Adam at 1e-3, training gradients clipped at .03, 3,000 updates. Different: 750
updates of flossing for 500, sequences of 5 d steps for 300, a readout that starts at N(0, 1/N),
biases of zero; a QR factorisation in every other step changes no exponent.

Verdict: `reproduced` if, in every cell: at the longest of --delays every flossed network answers
95 % of held-out bits, and no other does; at the shortest all networks do; on held-out bits the root
mean square of the flossed exponents is at most .15 per step in every network (over 20 steps a
factor e^3, where it is e^20 as drawn); and flossing makes the condition number of every Jacobian
over 2 d steps, at the longest d, of its first --exponents singular values, smaller. Else `not
reproduced`; `quick run only` if --steps, --flossing-steps, --seeds, --features, --exponents or the
longest of --delays is below its default.

    python experiments/flossing.py
    python experiments/flossing.py --cells gru ./mine.py:MyCell --delays 5 20 --seeds 4
"""

import dataclasses
import functools

from rnnjax import experiment, regularizers, training
from rnnjax.cells.initializers import Gaussian
from rnnjax.command_line import ArgumentError, at_least, rising
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import label, short_name
from rnnjax.tasks import DelayedXOREngelken2023

import jax
import jax.numpy as jnp
import numpy as np

SOLVED, NEAR_ZERO = 0.95, 0.15
STREAM, TRANSIENT = 55, 16  # steps of a stream of bits, and those before exponents count
NETWORKS = "as drawn", "flossed"


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks on delayed exclusive or, as drawn and after flossing.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute and a half on two CPU cores.
    """

    cells: tuple[str, ...] = ("elman",)
    delays: tuple[int, ...] = (5, 15)
    """Delays d of y_t = s_{t-d} xor s_{t-2d}, in rising order."""
    exponents: int = 75
    """How many Lyapunov exponents are pushed to zero."""
    flossing_steps: int = 750
    """Updates of flossing before training."""
    features: int = 80
    steps: int = 3000
    """Training updates."""
    batch_size: int = 16
    learning_rate: float = 1e-3
    """Step size of the Adam optimiser, in flossing and in training."""
    clip: float = 0.03
    seeds: int = 3
    snapshots = 20  # of accuracy, during training

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "exponents", "flossing_steps")
        self.at_most_state("exponents")
        rising(self, "delays")
        if len(self.delays) < 2 or self.delays[0] < 1:
            raise ArgumentError(f"--delays must be two or more, each at least 1; got {self.delays}")

    def make_cell(self, name, **options):
        drawn = {"kernel_init": Gaussian(), "recurrent_kernel_init": Gaussian()}
        return super().make_cell(name, **(drawn if name == "elman" else {}), **options)


def make_train_step(loss_fn, optimizer):  # of flossing, and of training
    def train_step(state, batch):
        loss, gradient = jax.value_and_grad(loss_fn)(state.params, batch)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def floss(config, run, name, drawn, optimizer):
    """Return all seeds after flossing; heads, and the keys of their training, are those given."""
    cell, stream = config.make_cell(name), DelayedXOREngelken2023(STREAM)

    def loss_fn(params, xs):
        options = {"interval": 2, "transient": TRANSIENT}
        return regularizers.flossing(cell, params, xs, config.exponents, 0.0, **options)

    state = experiment.restart(drawn, optimizer, drawn.params.cell)
    options = {"steps": config.flossing_steps, "cell": name, "phase": "flossing"}
    options["sample"] = lambda key: stream.sample(key, 1).inputs
    step, observe = make_train_step(loss_fn, optimizer), lambda *_: ()
    found = experiment.train_and_probe(config, run, step, state, observe, (), **options)
    return drawn._replace(params=drawn.params._replace(cell=found.state.params))


def train(config, run, name, delay, network, state, optimizer):
    """Return parameters after training, and held-out accuracies `[S]` by update."""
    cell, task = config.make_cell(name), DelayedXOREngelken2023(5 * delay, delay)
    (held_out,) = experiment.sampled_sets(task, config.members, 64)

    def metrics(params, batch):
        return task.metrics(readout.apply(cell, params, batch.inputs), batch)

    step = make_train_step(lambda params, batch: metrics(params, batch)["loss"], optimizer)
    scores, state = training.over_population(metrics), experiment.restart(state, optimizer)
    options = {"cell": name, "phase": f"{network}, d = {delay}"}
    options["sample"] = functools.partial(task.sample, batch_size=config.batch_size)
    found = experiment.train_and_probe(config, run, step, state, scores, held_out, **options)
    return found.state.params, {t: of["accuracy"] for t, of in found.observed().items()}


def measure(config, run):
    import optax

    adam = optax.adam(config.learning_rate)
    clipped = optax.chain(optax.clip_by_global_norm(config.clip), adam)
    options = {"lag": 2 * config.delays[-1], "num": config.exponents, "transient": TRANSIENT}
    stream = DelayedXOREngelken2023(TRANSIENT + 2 * options["lag"], config.delays[-1])
    xs = stream.sample(jax.random.fold_in(jax.random.key(config.seed), 2), 8).inputs  # held out
    long_term = functools.partial(experiment.long_term_jacobians, xs=xs, **options)
    tables, cells = {"accuracy": [], "exponents": [], "gradients": []}, {}
    for full_name in config.cells:
        name, cell = short_name(full_name), config.make_cell(full_name)
        drawn = readout.start(config, adam, cell, DelayedXOREngelken2023())
        starts = {"as drawn": drawn, "flossed": floss(config, run, full_name, drawn, adam)}
        params, accuracy = {key: state.params for key, state in starts.items()}, {}
        for delay in config.delays:
            at = accuracy.setdefault(str(delay), {})
            for key, state in starts.items():
                after, observed = train(config, run, full_name, delay, key, state, clipped)
                params[f"{key}, trained"] = after  # the longest delay is the last
                at[key] = observed[config.steps].tolist()
                row = {"panel": f"{label(full_name)}, d = {delay}", "network": key}
                row |= experiment.quantile_band(np.stack([*observed.values()], 1))
                tables["accuracy"].append(row | {"update": np.array([*observed])})
        found = run.cached(name, long_term, cell, [*params.values()])
        cells[name] = {"accuracy": accuracy}
        for key in ("root_mean_square", "log_condition"):
            cells[name][key] = dict(zip(params, found[key].tolist(), strict=True))
        experiment.add_long_term(tables, found, [*params], cell=name)
        for table, rows in tables.items():
            run.write_table(table, rows)
    return {"cells": cells}


def verdict(config, summary):
    conditions, (shortest, *_, longest) = {}, config.delays
    for cell, entry in summary["cells"].items():
        short, long = (entry["accuracy"][str(d)] for d in (shortest, longest))
        pairs = zip(*(entry["log_condition"][key] for key in NETWORKS), strict=True)
        away = entry["root_mean_square"]["flossed"]
        conditions |= {
            f"{cell}: d = {shortest}, all learn": min(map(min, short.values())) >= SOLVED,
            f"{cell}: d = {longest}, flossed networks learn": min(long["flossed"]) >= SOLVED,
            f"{cell}: d = {longest}, no other network does": max(long["as drawn"]) < SOLVED,
            f"{cell}: flossed exponents are near zero": max(away) <= NEAR_ZERO,
            f"{cell}: flossed Jacobians are better conditioned": all(b < a for a, b in pairs),
        }
    few = "steps", "flossing_steps", "seeds", "features", "exponents"
    return Verdict.judge(conditions).unless_quick(config, *few, delays=(longest, Config.delays[-1]))


def show(summary):
    for cell, entry in summary["cells"].items():
        columns = {f"accuracy, d = {d}": of for d, of in entry["accuracy"].items()}
        columns |= {"rms exponent": entry["root_mean_square"], "ln cond.": entry["log_condition"]}
        values = {key: zip(*(of[key] for of in columns.values()), strict=True) for key in NETWORKS}
        rows = [[key, *of_seed] for key, of in values.items() for of_seed in of]
        experiment.print_table([cell, *columns], rows)


def draw(run):
    words = {"panel": "panel", "level": 0.5, "xlabel": "training update", "ylabel": "accuracy"}
    experiment.draw_curves(run, "accuracy", "update", "network", **words)
    words = {"panel": "cell", "level": 0, "xlabel": "i", "ylabel": "Lyapunov exponent, nats/step"}
    experiment.draw_curves(run, "exponents", "i", "network", **words)
    words = {"panel": "cell", "natural_logs": True, "ylabel": "gradient over that at lag 0"}
    experiment.draw_curves(run, "gradients", "lag", "network", **words)


run = experiment.Experiment("flossing", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
