"""Does a forget bias of 1 bring an LSTM level with a GRU where lags are long?

Claim: "adding a bias of 1 to the LSTM's forget gate closes the gap between the LSTM and the GRU"
(Jozefowicz, Zaremba, Sutskever 2015, "An empirical exploration of recurrent network architectures",
abstract). Their tasks are arithmetic, XML and language modelling (Penn Treebank) among others. Here
the task is another one with long lags, so that only the direction can be reproduced, no number.

Task: the temporal order of two symbols over 50 steps, as Pascanu, Mikolov, Bengio 2013 scale it
(`tasks.TemporalOrder`); the first comes 40 to 44 steps before the last step. With zero weights the
forget gate of an LSTM keeps s(0) = .5 of c at every step with bias 0, and s(1) = .73 with bias 1.
Networks: an LSTM with bias 0, the same draws with bias 1, and a GRU, of 32 units each, all kernels
U[-1/sqrt(32), 1/sqrt(32)], other biases zero. Training is ours: Adam at 3e-3, batches of 32 fresh
sequences, gradients clipped to a norm of 1; 8 networks of each kind, on the same sequences by seed.

Measured is the number of updates until a network has learned: its loss on held-out sequences is
below a tenth of chance for the first time. A network that never learns counts as --steps.

Verdict: `reproduced` if (1) there is a gap: in the median the LSTM with bias 0 takes more updates
than the GRU; (2) with bias 1 at most half of the gap is left; and (3) in at least three quarters of
the pairs of equal seed bias 1 takes fewer updates than bias 0. Else `not reproduced`; `quick run
only` if --steps, --seeds, --features or --length is below its default.

    python experiments/papers/jz15_bias.py
    python experiments/papers/jz15_bias.py --length 100 --steps 5000
"""

import dataclasses
import functools
from typing import Any

import rnnjax
from rnnjax import experiment, tasks, training
from rnnjax.cells.initializers import Uniform
from rnnjax.command_line import at_least
from rnnjax.experiment import TrainingOptions, Verdict, readout

import jax
import jax.numpy as jnp
import numpy as np

LEARNED, SHARE, LEFT = 0.1, 0.75, 0.5
ZERO, ONE, GRU = "LSTM, bias 0", "LSTM, bias 1", "GRU"


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Train LSTMs with forget biases of 0 and 1, and GRUs, to tell the order of two symbols.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute and a half on two CPU cores.
    """

    length: int = 50
    """Steps of a sequence."""
    features: int = 32
    """Units of each network."""
    steps: int = 2000
    """Training updates."""
    seeds: int = 8
    snapshots = 40  # of the held-out loss, during training

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")
        self.make_task()

    def make_task(self):
        return experiment.make_task({"order": tasks.TemporalOrder}, "order", length=self.length)

    def make_cells(self):
        drawn: dict[str, Any] = {"kernel_init": Uniform(), "recurrent_kernel_init": Uniform()}
        zero, one = (rnnjax.LSTM(self.features, forget_bias=bias, **drawn) for bias in (0.0, 1.0))
        return {ZERO: zero, ONE: one, GRU: rnnjax.GRU(self.features, **drawn)}


def make_train_step(config, cell, task):
    import optax

    clip = optax.clip_by_global_norm(config.clip)
    optimizer = optax.chain(clip, optax.adam(config.learning_rate))

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
    """Train all seeds; return the numbers of updates `[K]`, and losses over chance `[K, S]`."""
    (held_out,) = experiment.sampled_sets(task, config.members, 256)

    @training.over_population
    def loss(params, batch):
        return task.loss(readout.apply(cell, params, batch.inputs), batch) / task.chance

    step, optimizer = make_train_step(config, cell, task)
    state = readout.start(config, optimizer, cell, task)
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    found = experiment.train_and_probe(
        config, run, step, state, loss, held_out, sample=sample, network=name
    )
    observed = found.observed()
    return np.array([*observed]), np.stack([*observed.values()])


def updates_to_learn(updates, losses):
    """Return the first number of updates with a loss below the threshold, or infinity, `[S]`."""
    learned = losses < LEARNED
    return np.where(learned.any(0), updates[learned.argmax(0)], np.inf)


def measure(config, run):
    task, found, loss, learned = config.make_task(), {}, [], []
    for name, cell in config.make_cells().items():
        updates, losses = held_out_losses(config, run, name, cell, task)
        at = updates_to_learn(updates, losses)
        found[name] = {"updates_to_learn": at.tolist(), "final_loss": losses[-1].tolist()}
        row = {"network": name, "update": updates}
        loss.append(row | experiment.quantile_band(losses.T))
        learned.append(row | {"share": (at <= updates[:, None]).mean(1)})
        run.write_tables({"loss": loss, "learned": learned})
    return {"chance": task.chance, "networks": found}


def verdict(config, summary):
    of = {
        name: np.minimum(entry["updates_to_learn"], config.steps)
        for name, entry in summary["networks"].items()
    }
    median = {name: np.median(updates) for name, updates in of.items()}
    gap, left = (median[name] - median[GRU] for name in (ZERO, ONE))
    conditions = {
        "there is a gap: with bias 0 the LSTM takes more updates than the GRU": gap > 0,
        "with bias 1 at most half of the gap is left": left <= LEFT * gap,
        "bias 1 takes fewer in three quarters of the pairs": np.mean(of[ONE] < of[ZERO]) >= SHARE,
    }
    few = "steps", "seeds", "features", "length"
    return Verdict.judge(conditions).unless_quick(config, *few)


def show(summary):
    header = [
        "network",
        "updates to learn, median",
        "least",
        "most",
        "learned",
        "final loss/chance",
    ]
    rows = []
    for name, entry in summary["networks"].items():
        at = np.array(entry["updates_to_learn"])
        learned = f"{np.isfinite(at).sum()} of {len(at)}"
        quantiles = [float(np.median(at)), float(at.min()), float(at.max())]
        rows.append([name, *quantiles, learned, float(np.median(entry["final_loss"]))])
    experiment.print_table(header, rows)


def draw(run):
    words: dict[str, Any] = {"xlabel": "training update", "ylabel": "held-out loss over chance"}
    words |= {"level": LEARNED, "log_y": True}
    experiment.draw_curves(run, "loss", "update", "network", **words)
    words = {"xlabel": "training update", "ylabel": "share of networks that have learned"}
    experiment.draw_curves(run, "learned", "update", "network", value="share", **words)


run = experiment.Experiment("jz15_bias", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
