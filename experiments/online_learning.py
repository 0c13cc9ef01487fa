"""Can a network learn online what back-propagation teaches it, update for update?

Claim: real-time recurrent learning (RTRL) learns what back-propagation through time does, in as
many updates, and in memory that does not grow with the sequence (Williams, Zipser 1989). Methods
that are cheaper, because they are noisy or leave out paths through the recurrent kernel, still
learn what truncation at fewer steps than the delay does not (Menick et al. 2020, arXiv:2006.07232;
Marschall, Cho, Savin 2020, JMLR 21).

Every method starts from the same networks, reads the same sequences and updates once a sequence,
with Adam; RTRL also at every --every steps within it, on fewer sequences, so that the numbers of
updates match. A method that cannot serve a cell is left out, and says what it needs.

Verdict: `reproduced` if, in every cell and task, for losses on held-out sequences: RTRL ends within
a tenth of chance of back-propagation in every network (the gradients are equal to rounding); with
updates within sequences, it ends below three quarters of chance in every network, where no answer
without memory does; the medians of RTRL and SnAp(1) are at most two thirds of that of truncation at
--truncated steps; and on the order task those of UORO, RFLO and e-prop are below it. Else `not
reproduced`; `quick run only` if --steps, --seeds or --features is below its default.

    python experiments/online_learning.py
    python experiments/online_learning.py --cells lstm ./mine.py:MyCell --order-length 40 --seeds 4
"""

import dataclasses
import functools
import itertools

from rnnjax import experiment, online, tasks, training
from rnnjax.command_line import at_least
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.experiment.readout import Readout
from rnnjax.networks import label, short_name

import jax
import jax.numpy as jnp
import numpy as np

ALIKE, LEARNED, SHARE = 0.1, 0.75, 2 / 3


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks online, beside back-propagation.

    Prints a table and writes a figure (PNG, SVG), the numbers behind it (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    cells: tuple[str, ...] = ("gru", "lru")
    copy_length: int = 8
    """Steps between reading symbols and copying them."""
    order_length: int = 20
    """Steps of a sequence in which the order of two symbols counts."""
    truncated: int = 4
    """Steps of truncated back-propagation."""
    decay: float = 0.5
    """Of RFLO's eligibility traces in a step."""
    every: int = 5
    """Steps between two updates within a sequence."""
    features: int = 16
    steps: int = 1200
    """Training updates of each method."""
    batch_size: int = 16
    learning_rate: float = 1e-2
    seeds: int = 3
    snapshots = 10  # of the loss, during training

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "copy_length", "truncated", "every")
        at_least(10, self, "order_length")
        at_least(0, self, "decay", most=1)

    def make_tasks(self):
        copy = tasks.CopyMemory(self.copy_length, symbols=4, memorise=3)
        return {"copy": copy, "order": tasks.TemporalOrder(self.order_length)}

    def make_methods(self):
        """Return each method, with the steps between two updates; None is the whole sequence."""
        return {
            "back-propagation": (None, None),
            "RTRL": (online.RTRL(), None),
            f"RTRL, every {self.every} steps": (online.RTRL(), self.every),
            "SnAp(1)": (online.SnAp(1), None),
            "UORO": (online.UORO(), None),
            "RFLO": (online.RFLO(self.decay), None),
            "e-prop": (online.EProp(), None),
            f"truncated at {self.truncated}": (online.Truncated(self.truncated), None),
        }


def make_train_step(config, cell, task, method, every):
    import optax

    clip = optax.clip_by_global_norm(config.clip)
    optimizer = optax.chain(clip, optax.adam(config.learning_rate))

    def loss_fn(head, y, now):  # of one step
        targets, weights = now
        losses = task.step_losses((y @ head[0] + head[1])[None], targets[None])
        return jnp.sum(weights * losses[0])

    def update(kept, stretch):
        (params, opt_state, stream), (inputs, *now) = kept, stretch
        loss, (of_cell, of_head), stream = online.value_and_gradient(
            method, cell, (params.cell, params[1:]), stream, inputs, loss_fn, now
        )
        updates, opt_state = optimizer.update(Readout(of_cell, *of_head), opt_state)
        return (optax.apply_updates(params, updates), opt_state, stream), loss

    def train_step(state, batch):
        weights = batch.mask / batch.mask.sum(0) / config.batch_size
        key = jax.random.fold_in(state.key, state.step)
        stream = online.start(method, cell, state.params.cell, batch.inputs, key=key)
        kept, steps = (
            (state.params, state.opt_state, stream),
            (batch.inputs, batch.targets, weights),
        )
        kept, losses = online.in_stretches(update, kept, steps, every or task.total_length)
        params, opt_state, stream = kept
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": losses.sum(), "largest_trace": online.largest(stream)}

    return train_step, optimizer


def learn(config, run, name, where, task, method_name, held_out):
    """Train all seeds by one method; return how it ended, and the losses by update."""
    cell, (method, every) = config.make_cell(name), config.make_methods()[method_name]
    step, optimizer = make_train_step(config, cell, task, method, every)
    state = readout.start(config, optimizer, cell, task)
    inputs = task.sample(jax.random.key(0), config.batch_size).inputs
    kept = experiment.kept_bytes(method, cell, experiment.member(state.params.cell, 0), inputs)
    updates = -(-task.total_length // every) if every else 1  # of a sequence

    @training.over_population
    def loss(params, batch):
        return task.loss(readout.apply(cell, params, batch.inputs), batch) / task.chance

    options = {"steps": -(-config.steps // updates), "phase": f"{where}, {method_name}"}
    options["sample"] = functools.partial(task.sample, batch_size=config.batch_size)
    found = experiment.train_and_probe(config, run, step, state, loss, held_out, **options)
    losses = {t * updates: of for t, of in found.observed().items()}
    return {"loss": losses[options["steps"] * updates].tolist(), "bytes": kept}, losses


def measure(config, run):
    found, rows, missing, times = {}, [], [], []
    for name, (task_name, task) in itertools.product(config.cells, config.make_tasks().items()):
        (held_out,) = experiment.sampled_sets(task, config.members, 128)
        where = f"{short_name(name)}, {task_name}"
        for method in config.make_methods():
            try:
                entry, losses = learn(config, run, name, where, task, method, held_out)
            except TypeError as error:  # says what the method needs
                missing.append(str(error))
                continue
            found.setdefault(where, {})[method] = entry
            band = experiment.quantile_band(np.stack([*losses.values()], 1))
            row = {"panel": f"{label(name)}, {task_name}", "method": method} | band
            rows.append(row | {"update": np.array([*losses])})
            run.write_table("loss", rows)
            took = experiment.update_milliseconds(run, phase=f"{where}, {method}")
            times.append([f"{where}, {method}", took])
    experiment.print_table(["cell, task, method", "ms a sequence, all seeds"], times)
    return {"trained": found, "missing": missing}


def verdict(config, summary):
    conditions, (back, rtrl, within, snap, *others, short) = {}, config.make_methods()
    for where, found in summary["trained"].items():
        medians = {method: np.median(of["loss"]) for method, of in found.items()}
        away = np.abs(np.subtract(found[rtrl]["loss"], found[back]["loss"]))
        conditions[f"{where}: RTRL ends as {back}"] = bool(away.max() <= ALIKE)
        conditions[f"{where}: {within} learns"] = max(found[within]["loss"]) <= LEARNED
        shares = {rtrl: SHARE, snap: SHARE, **dict.fromkeys(others * where.endswith("order"), 1)}
        for method in (name for name in shares if name in found):
            below = bool(medians[method] < shares[method] * medians[short])
            conditions[f"{where}: {method} below {short}"] = below
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features")


def show(summary):
    header, rows = ["cell, task, method", "loss over chance", "least", "most", "bytes kept"], []
    for where, found in summary["trained"].items():
        for method, of in found.items():
            rows.append([f"{where}, {method}", *np.quantile(of["loss"], (0.5, 0, 1)), of["bytes"]])
    experiment.print_table(header, rows)
    print("".join(f"{sentence}\n" for sentence in summary["missing"]), end="")


def draw(run):
    words = {"xlabel": "update", "ylabel": "loss over chance", "panel": "panel", "columns": 2}
    experiment.draw_curves(run, "loss", "update", "method", log_y=True, legend_below=True, **words)


run = experiment.Experiment("online_learning", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
