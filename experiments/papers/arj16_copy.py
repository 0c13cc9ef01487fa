"""Do a tanh network and an LSTM learn to copy ten symbols across a hundred blanks? Not soon.

Claim: on the copying memory problem a tanh network and an LSTM soon have the cross-entropy of the
best answer without memory, 10 ln 8 / (T + 20) = .1733, .0945, .0650, .0400 for T = 100, 200, 300,
500, and stay there (Arjovsky, Shah, Bengio 2016, "Unitary evolution recurrent neural networks",
arXiv:1511.06464, section 4.1). One exception is published: at T = 100 the LSTM beats this plateau,
slowly. In the figure of the authors' draft both networks reach the plateau after 2,000 to 5,000
updates; the LSTM leaves it after 10,000 at T = 100, and has .145 after 50,000, the last.

Task: ten of eight symbols, T - 1 blanks, a marker, ten blanks; the ten symbols are to follow the
marker, and every step counts. Networks: 80 tanh units; an LSTM of 40 units with a forget bias of 1.
Training, as in the authors' code: batches of 20, RMSprop at 1e-3 with a decay of .9 and squares
that start at 1e-3, every entry of the gradient cut to [-1, 1], Glorot's uniform kernels. Different:
fresh sequences for 100,000 fixed ones; states that start at zero and are not trained; an LSTM whose
output gate does not read c; a readout that starts at N(0, 1/H); 1e-16 added to the squares; and
5,000 updates for 50,000, at T = 100 and 200 (more by --steps and --lengths).

Verdict: `reproduced` if, for both networks at every T, in the second half of the updates the median
of each network's held-out losses is within 5 % of the plateau, and no held-out loss is ever below
90 % of it. For the LSTM at T = 100 only the first 10,000 updates count, as published. Else `not
reproduced`; `quick run only` if --steps, --seeds or a width is below its default, or a default
length is missing.

    python experiments/papers/arj16_copy.py
    python experiments/papers/arj16_copy.py --lengths 100 200 300 500 --steps 50000
"""

import dataclasses
import functools
from typing import Any

import rnnjax
from rnnjax import experiment, tasks, training
from rnnjax.command_line import at_least, finite
from rnnjax.experiment import TrainingOptions, Verdict, readout

import jax
import jax.numpy as jnp
import numpy as np

NEAR, BEATEN = 0.05, 0.9  # of the plateau
ESCAPES = ("lstm", 100), 10_000  # the published exception, and its updates at the plateau
LABELS = {"elman": "RNN, tanh", "lstm": "LSTM"}
GLOROT = jax.nn.initializers.glorot_uniform()


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Train a tanh network and an LSTM to copy symbols, and compare them with no memory.

    Prints a table and writes a figure (PNG, SVG), the numbers behind it (CSV), metrics.jsonl and
    summary.json. The default run takes about three minutes on two CPU cores.
    """

    lengths: tuple[int, ...] = (100, 200)
    """T: one more than the blanks between the symbols and the marker."""
    rnn_features: int = 80
    """Units of the tanh network."""
    lstm_features: int = 40
    """Units of the LSTM."""
    steps: int = 5000
    """Training updates; the paper has 50,000."""
    batch_size: int = 20
    learning_rate: float = 1e-3
    """Step size of RMSprop."""
    clip: float = 1.0
    """Cut every entry of a gradient to this size. Metrics record the norm before clipping."""
    seeds: int = 2
    snapshots = 50  # of the held-out loss, during training

    def __post_init__(self):
        super().__post_init__()
        finite(self, "lengths", above=0)
        at_least(1, self, "rnn_features", "lstm_features")

    def make_cells(self):
        drawn: dict[str, Any] = {"kernel_init": GLOROT, "recurrent_kernel_init": GLOROT}
        lstm = rnnjax.LSTM(self.lstm_features, forget_bias=1.0, **drawn)
        return {"elman": rnnjax.Elman(self.rnn_features, **drawn), "lstm": lstm}


def make_train_step(config, cell, task):
    import optax

    rms = optax.scale_by_rms(decay=0.9, eps=1e-16, initial_scale=1e-3)
    optimizer = optax.chain(optax.clip(config.clip), rms, optax.scale(-config.learning_rate))

    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step, optimizer


def held_out_losses(config, run, name, cell, task):
    """Train all seeds; return the numbers of updates `[K]`, and losses after them `[K, S]`."""
    (held_out,) = experiment.sampled_sets(task, config.members, 128)

    @training.over_population
    def loss(params, batch):
        return task.loss(readout.apply(cell, params, batch.inputs), batch)

    step, optimizer = make_train_step(config, cell, task)
    state = readout.start(config, optimizer, cell, task)
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    found = experiment.train_and_probe(
        *(config, run, step, state, loss, held_out), sample=sample, cell=name, length=task.length
    )
    observed = found.observed()
    return np.array([*observed]), np.stack([*observed.values()])


def describe(name, task, updates, losses):
    """Return how near the plateau each seed is in the second half, and how far it gets below."""
    where, last = ESCAPES
    counts = updates <= (last if (name, task.length) == where else updates[-1])
    losses = losses[counts] / task.chance
    late = updates[counts] > updates[counts][-1] // 2
    near = np.abs(losses - 1) <= NEAR
    first = np.where(near.any(0), updates[counts][near.argmax(0)], np.inf)
    return {
        "plateau": task.chance,
        "second_half": np.median(losses[late], 0).tolist(),
        "lowest": losses.min(0).tolist(),
        "reached_at": first.tolist(),
    }


def measure(config, run):
    found, rows, updates = {}, [], np.array([])
    for length in config.lengths:
        task = tasks.CopyMemory(length)
        panel, entry = f"T = {length}", found.setdefault(str(length), {})
        for name, cell in config.make_cells().items():
            updates, losses = held_out_losses(config, run, name, cell, task)
            entry[name] = describe(name, task, updates, losses)
            row = {"panel": panel, "series": LABELS[name], "update": updates}
            rows.append(row | experiment.quantile_band(losses.T))
        line = dict.fromkeys(("median", "q25", "q75"), np.full(len(updates), task.chance))
        row = {"panel": panel, "series": "published: no memory", "update": updates}
        rows.append(row | line)
        run.write_table("loss", rows)
    return {"lengths": found}


def verdict(config, summary):
    conditions = {}
    for length, entry in summary["lengths"].items():
        for name, of in entry.items():
            where, away = f"{LABELS[name]}, T = {length}", np.subtract(of["second_half"], 1)
            conditions[f"{where}: at the plateau"] = bool(np.abs(away).max() <= NEAR)
            conditions[f"{where}: never far below it"] = min(of["lowest"]) >= BEATEN
    missing = len({*Config.lengths} - {*config.lengths})
    few = "steps", "seeds", "rnn_features", "lstm_features"
    return Verdict.judge(conditions).unless_quick(config, *few, lengths=(-missing, 0))


def show(summary):
    header = ["network, T", "seed", "plateau", "second half / plateau", "lowest", "reached at"]
    rows = []
    for length, entry in summary["lengths"].items():
        for name, of in entry.items():
            values = zip(of["second_half"], of["lowest"], of["reached_at"], strict=True)
            of_seeds = [[i, of["plateau"], *seed] for i, seed in enumerate(values)]
            rows += [[f"{LABELS[name]}, T = {length}", *row] for row in of_seeds]
    experiment.print_table(header, rows)


def draw(run):
    words = {"xlabel": "training update", "ylabel": "held-out cross-entropy, nats per step"}
    line: dict[str, Any] = {
        "panel": "panel",
        "reference": "published: no memory",
        "ylim": (0.0, 0.3),
    }
    names = {"published: no memory": "published: 10 ln 8 / (T + 20)"}
    experiment.draw_curves(run, "loss", "update", "series", names=names, **words, **line)


run = experiment.Experiment("arj16_copy", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
