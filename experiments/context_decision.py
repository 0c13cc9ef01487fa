"""How does a network attend to one of two inputs? Two line attractors and a selection vector.

Claim: a network that integrates motion or colour, as a context cue says, has in each context a line
of slow points. Along it runs the decision: one mode is slow, all others decay fast. The lines of
the two contexts lie apart. The left eigenvector of the slow mode, the selection vector, overlaps
with the input of the relevant stimulus and not with the other, so one is integrated and the other,
although it moves the state, is forgotten (Mante, Sussillo, Shenoy, Newsome 2013,
"Context-dependent computation by recurrent dynamics in prefrontal cortex", Nature 503).

Slow points are searched, in float64, from states visited during stimuli, at the input of coherence
zero in both. A point is slow if, at its speed, the state moves less than a tenth of the size of the
cloud of visited states (root mean square distance from the mean) during a stimulus of n steps.

Verdict: `reproduced` if for every network and context
- at least .85 of held-out trials are right, the task's own criterion (an ideal observer: .94);
- the log odds of the choice along the slow points run from below -ln 19 to above ln 19 (95% sure of
  either choice), with no gap of over a fifth of the range: five points or fewer have a wider one;
- at most points |ln |lambda_1|| < 1/n, less than a factor e in a stimulus, and ln |lambda_2| <
  -3/n: of the second mode a stimulus leaves 5%;
- the median overlap of the selection vector with the relevant input is over 10/3 times that with
  the other: then a coherence of 15 outweighs one of 50 that points the other way;
- the lines lie apart: by more than a tenth of the size of the cloud.
Else `not reproduced`; `quick run only` if --steps, --seeds, --starts, --trials or --features is
below its default.

    python experiments/context_decision.py
    python experiments/context_decision.py --cells rate gru ./mine.py:MyCell --seeds 4
"""

import dataclasses
import functools
import math

import rnnjax
from rnnjax import dynamics, experiment, networks, training
from rnnjax.command_line import ArgumentError, at_least, progress, rising
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import short_name
from rnnjax.tasks import trials

import jax
import jax.numpy as jnp
import numpy as np

CONTEXTS = "motion", "colour"
DT = 20  # ms, that of `cells.Rate`
NEAR = 0.1  # of the size of the cloud of states
SURE = math.log(19)  # 95% to 5%
GAP, DECAYED, SELECTION = 1 / 5, 3, 50 / 15
RULES = {
    "slow points run from one choice to the other": lambda line: (
        line["from"] < -SURE and line["to"] > SURE and line["largest_gap"] <= GAP
    ),
    "one mode is slow, the next fast": lambda line: line["one_slow_mode"] > 0.5,
    "the selection vector is along the relevant input": lambda line: (
        line["relevant"] > SELECTION * line["irrelevant"]
    ),
}
SHOWN = {
    **{"from": "log odds from", "to": "to", "slow_mode_ms": "slow mode, ms"},
    **{"second_mode_ms": "second, ms", "relevant": "relevant", "irrelevant": "irrelevant"},
}


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks to decide by context, and find the line attractors on which they integrate.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    cells: tuple[str, ...] = ("rate",)
    """Cells to train: rate, gru, another cell of the library by the name of its class in lower
    case, or one of your own: ./mine.py:MyCell."""
    sigma: float = 1.0
    """Noise of the stimulus, in units of its strength times sqrt(ms)."""
    stimulus: tuple[int, int] = (500, 2000)
    """Shortest and longest duration of the stimulus in training, in ms; uniform between them."""
    features: int = 64
    steps: int = 4000
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
        rising(self, "stimulus")
        if self.stimulus[0] < DT:
            raise ArgumentError(
                f"--stimulus must be at least a step of {DT} ms, got {self.stimulus}"
            )
        self.make_task()

    def make_task(self, stimulus=None):
        """Return the task: only the decision is scored, and it follows the stimulus at once."""
        stimulus = stimulus or trials.Uniform(*self.stimulus)
        given = {"sigma": self.sigma, "stimulus_ms": stimulus, "delay_ms": 0, "dt": DT}
        given |= {"unscored": ("fixation", "stimulus", "delay")}
        return experiment.make_task({"context": trials.ContextDecision}, "context", **given)


def make_train_step(cell, task, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(readout.apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def train(config, run, name, task):
    """Return the parameters of all seeds after training."""
    import optax

    cell = config.make_cell(name)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    state = readout.start(config, optimizer, cell, task)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    return resumable.train_on_samples(
        make_train_step(cell, task, optimizer),
        state,
        functools.partial(task.sample, batch_size=config.batch_size),
        steps=config.steps,
        chunk_size=-(-config.steps // 10),
    ).state.params


def trials_without_noise(task, context):
    """Return inputs `[T, B, D]`, relevant coherences `[B]`, and the input without evidence.

    The irrelevant coherence is the largest, in either direction.
    """
    levels = np.asarray(task.coherences, np.float32)
    relevant = np.repeat(np.concatenate([-levels[::-1], levels]), 2)
    irrelevant = np.tile([-levels[-1], levels[-1]], len(relevant) // 2)
    key = jax.random.key(0)  # durations are fixed, and the conditions are replaced
    epochs, drawn = task.draw_epochs(key), task.draw(key)._replace(context=context)

    def inputs(relevant, irrelevant):
        signed = (relevant, irrelevant) if context == 0 else (irrelevant, relevant)
        drawn_1 = {"choice_1": int(signed[0] < 0), "coherence_1": abs(signed[0])}
        drawn_2 = {"choice_2": int(signed[1] < 0), "coherence_2": abs(signed[1])}
        return task.build(drawn._replace(**drawn_1, **drawn_2), epochs).inputs

    every = [inputs(*pair) for pair in zip(relevant, irrelevant, strict=True)]
    return jnp.stack(every, 1), relevant, inputs(0.0, 0.0)[int(epochs["stimulus"].start)]


@jax.enable_x64(True)
def search(config, cell, params, context):
    """Return the slow points of one network in one context, their modes and selection vectors."""
    task = dataclasses.replace(config.make_task(sum(config.stimulus) / 2), contexts=(context,))
    noisy = task.sample_trials(jax.random.key(config.seed), config.starts)
    clean, relevant, x = trials_without_noise(task, context)
    num_clean, xs = clean.shape[1], jnp.concatenate([clean, noisy.batch.inputs], 1)
    params, xs, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, xs, x))
    _, _, carries = rnnjax.unroll(cell, params.cell, xs, return_carries=True)
    first, last = (int(edge[0]) for edge in noisy.epochs["stimulus"])
    carries = jax.tree.map(lambda a: a[first:last], carries)  # after each step with a stimulus
    cloud = dynamics.flat_states(carries, 2)
    size = float(jnp.sqrt(jnp.square(cloud - cloud.mean((0, 1))).sum(-1).mean()))
    slow = (NEAR * size / (last - first)) ** 2 / 2  # q = speed^2 / 2
    starts = dynamics.visited_states(cell, carries, jax.random.key(config.seed), config.starts)
    apart = {"tolerance": slow, "stop_at": slow, "min_distance": size / 50}
    found = dynamics.fixed_points(cell, params.cell, x, starts, **apart)
    points = jax.tree.map(jnp.asarray, found.points)
    logits = cell.output(points) @ params.kernel + params.bias
    slopes = np.asarray(dynamics.input_jacobians(cell, params.cell, x, points))  # [P, N, D]
    selection, overlaps = found.left[:, 0], []
    for unit in (1, 3):  # for the first choice in each modality; the next is for the second
        moved = slopes[..., unit] - slopes[..., unit + 1]
        lengths = np.linalg.norm(selection, axis=-1) * np.linalg.norm(moved, axis=-1)
        overlaps.append(np.abs(np.sum(selection * moved, -1)) / lengths)
    return {
        "log_odds": logits[:, 1] - logits[:, 2],
        "relevant": overlaps[context],
        "irrelevant": overlaps[1 - context],
        "speed": found.speed,
        "size": size,
        "steps": last - first,
        "coherences": relevant,
        "states": dynamics.flat_states(points),
        **experiment.in_plane(found, jax.tree.map(lambda a: a[:, :num_clean], carries), num_clean),
    }


def describe(found):
    """Return what the verdict asks of the slow points of one network in one context."""
    if not len(found["log_odds"]):
        return {"points": 0}
    odds, steps = np.sort(found["log_odds"]), found["steps"]
    rates = np.log(np.abs(found["eigenvalues"][:, :2]))
    one_slow = (np.abs(rates[:, 0]) < 1 / steps) & (rates[:, 1] < -DECAYED / steps)
    slow, second = 1 / np.median(np.abs(rates), 0)
    numbers = {
        "largest_speed": found["speed"].max(),
        "from": odds[0],
        "to": odds[-1],
        "largest_gap": np.diff(odds).max(initial=0) / max(odds[-1] - odds[0], 1e-9),
        "one_slow_mode": one_slow.mean(),
        "slow_mode_ms": DT * slow,
        "second_mode_ms": DT * second,
        "relevant": np.median(found["relevant"]),
        "irrelevant": np.median(found["irrelevant"]),
    }
    whole = {"points": len(odds), "stable": int((found["num_unstable"] == 0).sum())}
    return whole | {name: float(value) for name, value in numbers.items()}


def distance(one, other):
    """Return the shortest distance between the two lines, relative to the size of the cloud."""
    between = np.linalg.norm(one["states"][:, None] - other["states"], axis=-1)
    return float(between.min(initial=np.inf) / one["size"])


def line_tables(found, panel):
    """Return rows about one line, in order of the log odds: its modes, and its selection vectors."""
    order = np.argsort(found["log_odds"])
    times = DT / np.abs(np.log(np.abs(found["eigenvalues"])))
    series = {
        "modes": {"slow mode": times[:, 0], "second mode": times[:, 1]},
        "selection": {"relevant input": found["relevant"], "other input": found["irrelevant"]},
    }
    place = {"panel": panel, "log_odds": found["log_odds"][order]}
    return {
        table: [place | {"series": name, "median": values[order]} for name, values in both.items()]
        for table, both in series.items()
    }


def measure(config, run):
    task, cells, tables = config.make_task(), {}, {}
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    held_out, given, _ = task.sample_trials(key, config.trials)
    towards = [np.asarray(1 - 2 * choice) for choice in (given.choice_1, given.choice_2)]
    evidence = towards[0] * given.coherence_1, towards[1] * given.coherence_2
    for full_name in config.cells:
        name, cell = short_name(full_name), config.make_cell(full_name)
        params = train(config, run, full_name, task)
        everyone = jax.tree.map(lambda a: jnp.stack([a] * config.seeds), held_out)
        entry = readout.score(cell, task, params, everyone) | {"networks": []}
        for i, seed in progress(list(enumerate(config.members)), f"slow points, {name}"):
            own, lines = experiment.member(params, i), []
            chosen = trials.choices(readout.apply(cell, own, held_out.inputs), held_out) == 1
            for context, relevant in enumerate(CONTEXTS):
                part = f"{name} {seed} {relevant}"
                lines.append(run.cached(part, search, config, cell, own, context))
                if i:  # figures show the first network of each cell
                    continue
                columns = {"panel": f"{networks.label(full_name)}, {relevant} context"}
                of_paths = {"coherence": lines[-1]["coherences"]}
                found = experiment.phase_tables(lines[-1], of_paths, **columns)
                found |= line_tables(lines[-1], columns["panel"])
                here = np.asarray(given.context == context)
                for stimulus, strengths in zip(CONTEXTS, evidence, strict=True):
                    columns |= {"stimulus": stimulus}
                    shares = experiment.psychometric_tables(
                        chosen[here], strengths[here], **columns
                    )
                    for table, rows in (found | shares).items():
                        tables.setdefault(table, []).extend(rows)
                    found = {}
            network = dict(zip(CONTEXTS, map(describe, lines), strict=True))
            entry["networks"].append(network | {"distance": distance(*lines)})
        cells[name] = entry
        for table, rows in tables.items():
            run.write_table(table, rows)
    return {"cells": cells}


def verdict(config, summary):
    conditions = {}
    for cell, entry in summary["cells"].items():
        lines = [network[context] for network in entry["networks"] for context in CONTEXTS]
        for words, rule in RULES.items():
            conditions[f"{cell}: {words}"] = all(line["points"] and rule(line) for line in lines)
        conditions[f"{cell}: the task is solved"] = entry["success"] == 1
        apart = all(network["distance"] > NEAR for network in entry["networks"])
        conditions[f"{cell}: the lines of the contexts lie apart"] = apart
    names = "steps", "seeds", "starts", "trials", "features"
    return Verdict.judge(conditions).unless_quick(config, *names)


def show(summary):
    header = ["cell", "seed", "context", "accuracy", "points", *SHOWN.values()]
    rows = []
    for cell, entry in summary["cells"].items():
        for i, network in enumerate(entry["networks"]):
            for context in CONTEXTS:
                line = network[context]
                place = [cell, i, context, entry["accuracy_of_seeds"][i], line["points"]]
                rows.append(place + [line.get(key) for key in SHOWN])
    experiment.print_table(header, rows, digits=3)


def draw(run):
    from rnnjax import figures

    coherence = {"colour": "coherence", "colour_label": "coherence of the relevant stimulus, %"}
    experiment.draw_phase_planes(run, panel="panel", **coherence)
    options = {"panel": "panel", "xlabel": "log odds of the first choice at the slow point, nats"}
    experiment.draw_curves(
        *(run, "modes", "log_odds", "series"), ylabel="time constant, ms", log_y=True, **options
    )
    overlap = {"ylabel": "overlap with the selection vector", "ylim": (0, 1)}
    experiment.draw_curves(run, "selection", "log_odds", "series", **overlap, **options)
    curves = figures.psychometric_curves(
        *(run.read_table(name) for name in ("psychometric", "psychometric_fits")),
        series="stimulus",
        panel="panel",
        xlabel="coherence towards the first choice, %",
        ylabel="share of first choices",
    )
    run.save_figure("psychometric", curves)


run = experiment.Experiment("context_decision", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
