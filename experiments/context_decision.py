"""How does a network attend to one of two stimuli? By a line attractor and a selection vector.

Claim: a network that integrates motion or colour, as a context cue says, has in each context a line
of slow points from one choice to the other, with one slow mode while the others decay fast. The
lines lie apart. The selection vector, the left eigenvector of the slow mode, overlaps with the
input of the relevant stimulus and hardly with the other, which moves the state but is forgotten
(Mante, Sussillo, Shenoy, Newsome 2013, "Context-dependent computation by recurrent dynamics in
prefrontal cortex", Nature 503; 100 units). Their stimuli last 750 ms, 75 time constants; tau of
`rate` is ten times as long, and here stimuli last 500 to 2,000 ms and end at random.

Slow points are searched in float64 from states visited during stimuli of 1,250 ms, n steps, at the
input of no coherence. Slow: at this speed the state moves in n steps by less than a tenth of the
root mean square distance of visited states from their mean.

Verdict: `reproduced` if all networks are right in .85 of held-out trials, the task's own criterion,
and in both contexts of each (1) the log odds of the choice at slow points run from below -ln 19 to
above ln 19, 95% for either, without a gap of over a fifth of the range, which five points or fewer
have; (2) at most points |ln |lambda_1|| < 1/n, so that a stimulus leaves the slow mode, and
ln |lambda_2| < -3/n, 5% of the next; (3) the median overlap of selection vectors is over 10/3 times
as large with the relevant input as with the other: then 15% coherence outweighs 50%; (4) the lines
lie apart by more than a tenth of the distance above. Else `not reproduced`; `quick run only` if
--steps, --seeds, --starts, --trials or --features is below its default.

    python experiments/context_decision.py
    python experiments/context_decision.py --cells rate gru ./mine.py:MyCell --seeds 4
"""

import dataclasses
import math

import rnnjax
from rnnjax import dynamics, experiment
from rnnjax.command_line import at_least, progress
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import label, short_name
from rnnjax.tasks import trials

import jax
import jax.numpy as jnp
import numpy as np

CONTEXTS = "motion", "colour"
STIMULUS, UNSCORED = trials.Uniform(500, 2000), ("fixation", "stimulus", "delay")
TASK = trials.ContextDecision(dt=20, stimulus_ms=STIMULUS, delay_ms=0, unscored=UNSCORED)
STEPS = round(1250 / TASK.dt)  # of a stimulus, on average
NEAR = 0.1  # of the distance of visited states from their mean
SURE = math.log(19)  # 95% to 5%
GAP, DECAYED, SELECTION = 1 / 5, 3, 50 / 15
NUMBERS = "from", "to", "gap", "one_slow", "slow_ms", "second_ms", "relevant", "other", "apart", "q"


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks to decide by context, and find the line attractors on which they integrate.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    cells: tuple[str, ...] = ("rate",)
    features: int = 100
    steps: int = 3000
    """Training updates."""
    batch_size: int = 64
    learning_rate: float = 3e-3
    """Step size of the Adam optimiser, from which it falls to zero like a cosine."""
    seeds: int = 2
    trials: int = 2048
    """Held-out trials."""
    starts: int = 256
    """Starts of the search for slow points, for each network and context."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "starts")
        at_least(64, self, "trials")  # both contexts occur


def make_train_step(config, cell):
    import optax

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))

    def train_step(state, batch):
        def loss_fn(params):
            return TASK.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step, optimizer


@jax.enable_x64(True)
def search(config, cell, params, context):
    """Return the slow points of one network in one context, their modes and selection vectors."""
    task = dataclasses.replace(TASK, stimulus_ms=STEPS * TASK.dt, contexts=(context,))
    clean = experiment.coherence_trials(task, context)
    noisy = task.sample(jax.random.key(config.seed), config.starts)
    given = params, jnp.concatenate([clean.inputs, noisy.inputs], 1), clean.neutral
    params, xs, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), given)
    _, _, carries = rnnjax.unroll(cell, params.cell, xs, return_carries=True)
    carries = jax.tree.map(lambda a: a[clean.start : clean.end], carries)  # during the stimulus
    size = dynamics.spread(carries)
    slow = (NEAR * size / STEPS) ** 2 / 2  # q = speed^2 / 2
    starts = dynamics.visited_states(cell, carries, jax.random.key(config.seed), config.starts)
    found = dynamics.fixed_points(
        cell, params.cell, x, starts, tolerance=slow, stop_at=slow, min_distance=size / 50
    )
    points = jax.tree.map(jnp.asarray, found.points)
    slopes = dynamics.input_jacobians(cell, params.cell, x, points)  # [P, N, D]
    pushes = slopes[..., 1] - slopes[..., 2], slopes[..., 3] - slopes[..., 4]  # motion, colour
    return {
        "log_odds": (cell.output(points) @ params.kernel + params.bias) @ jnp.array([0, 1, -1]),
        "relevant": dynamics.overlaps(found.left[:, 0], pushes[context]),
        "irrelevant": dynamics.overlaps(found.left[:, 0], pushes[1 - context]),
        "size": size,
        "states": dynamics.flat_states(points),
        "coherence": clean.relevant,
        **experiment.in_plane(found, carries, len(clean.relevant)),
    }


def describe(found, other):
    """Return what the verdict asks of the slow points in one context, given those in the other."""
    if not len(found["q"]) or not len(other["q"]):
        return {"points": len(found["q"])} | dict.fromkeys(NUMBERS, math.nan)
    odds = np.sort(found["log_odds"])
    rates = np.log(np.maximum(np.abs(found["eigenvalues"][:, :2]), 1e-9))
    gap = np.diff(odds).max(initial=0) / max(odds[-1] - odds[0], 1e-9)
    one_slow = (np.abs(rates[:, 0]) < 1 / STEPS) & (rates[:, 1] < -DECAYED / STEPS)
    times = TASK.dt / np.maximum(np.median(np.abs(rates), 0), 1e-9)
    overlaps = [np.median(found[name]) for name in ("relevant", "irrelevant")]
    apart = np.linalg.norm(found["states"][:, None] - other["states"], axis=-1) / found["size"]
    values = *odds[[0, -1]], gap, one_slow.mean(), *times, *overlaps, apart.min(), found["q"].max()
    return {"points": len(odds)} | dict(zip(NUMBERS, map(float, values), strict=True))


def measure(config, run):
    cells, tables, key = {}, {}, jax.random.fold_in(jax.random.key(config.seed), 1)
    held_out = TASK.sample_trials(key, config.trials)
    for full_name in config.cells:
        name, cell = short_name(full_name), config.make_cell(full_name)
        params = readout.train(config, run, full_name, TASK, *make_train_step(config, cell))
        cells[name] = readout.score_alike(cell, TASK, params, held_out.batch) | {"networks": []}
        for i, seed in progress(list(enumerate(config.members)), f"slow points, {name}"):
            own = experiment.member(params, i)
            lines = [run.cached(f"{name} {seed} {c}", search, config, cell, own, c) for c in (0, 1)]
            described = describe(*lines), describe(*reversed(lines))
            cells[name]["networks"].append(dict(zip(CONTEXTS, described, strict=True)))
            if not i:  # figures show the first network of each cell
                outputs = readout.apply(cell, own, held_out.batch.inputs)
                panels = [f"{label(full_name)}, {context} context" for context in CONTEXTS]
                experiment.add_line_tables(tables, lines, panels, TASK.dt)
                experiment.add_psychometric_tables(tables, outputs, held_out, panels, CONTEXTS)
        run.write_tables(tables)
    return {"cells": cells}


def verdict(config, summary):
    conditions = {}
    for cell, entry in summary["cells"].items():
        lines = [network[context] for network in entry["networks"] for context in CONTEXTS]
        ends = all(n["from"] < -SURE and n["to"] > SURE and n["gap"] <= GAP for n in lines)
        selected = all(n["relevant"] > SELECTION * n["other"] for n in lines)
        conditions |= {
            f"{cell}: the task is solved": entry["success"] == 1,
            f"{cell}: slow points run from one choice to the other": ends,
            f"{cell}: one mode is slow, the next fast": all(n["one_slow"] > 0.5 for n in lines),
            f"{cell}: the selection vector is along the relevant input": selected,
            f"{cell}: the lines lie apart": all(n["apart"] > NEAR for n in lines),
        }
    names = "steps", "seeds", "starts", "trials", "features"
    return Verdict.judge(conditions).unless_quick(config, *names)


def show(summary):
    rows = [
        [cell, i, entry["accuracy_of_seeds"][i], context, *found.values()]
        for cell, entry in summary["cells"].items()
        for i, network in enumerate(entry["networks"])
        for context, found in network.items()
    ]
    experiment.print_table(["cell", "seed", "right", "context", "points", *NUMBERS], rows, digits=3)


def draw(run):
    experiment.draw_lines(run)
    experiment.draw_psychometrics(run)


run = experiment.Experiment("context_decision", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
