"""How does a network reproduce an interval? By the speed at which its state moves.

Claim: in ready-set-go a network measures the interval between two cues, Ready and Set, and goes as
long after Set. The measured interval sets the state at Set, which sets the speed of the state from
there to Go: the longer the interval, the slower (Remington, Narain, Hosseini, Jazayeri 2018,
"Flexible sensorimotor computations through rapid reconfiguration of cortical dynamics"), along
trajectories that are scaled in time (Wang, Narain, Hosseini, Jazayeri 2018, "Flexible timing by
temporal scaling of cortical responses", where a constant input gives the interval). Here this is
asked of full-rank cells and of a rate network of rank two, W = m n^T / N, which moves in a plane
after transients (Beiran, Meirhaeghe, Sohn, Jazayeri, Ostojic 2023, "Parametric control of flexible
timing through low-dimensional neural manifolds"), so that its flow field can be drawn.

The output, the logit of go minus that of fixate, learns to ramp as in these papers, here from -1 at
Set to 0 at Go; a network goes where it first is positive. There is no noise, so no bias towards the
mean is expected. All intervals on the grid of time steps are trained, and all are measured.

Verdict: `reproduced` if for every network (1) the slope of produced against sample intervals is
within .1 of one: at the ends of the range, 350 ms from its middle, that is less than a time step;
(2) the exponent of the mean ||s_{t+1} - s_t|| from Set to Go as a power of the interval is below
-1/2, nearer to -1, temporal scaling, than to 0, a clock; (3) trajectories of two intervals are on
average nearer to each other at the same phase than at the same time since Set; (4) the first
principal component of the states at Set rises or falls with the interval throughout. Else
`not reproduced`; `quick run only` if --steps, --seeds or --features is below its default.

    python experiments/ready_set_go.py
    python experiments/ready_set_go.py --cells gru ./mine.py:MyCell --steps 4000
"""

import dataclasses
import functools

import rnnjax
from rnnjax import cells, diagnostics, dynamics, experiment, training
from rnnjax.command_line import ArgumentError, at_least, progress
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import short_name
from rnnjax.tasks import trials

import jax
import jax.numpy as jnp
import numpy as np

RANK_TWO = "rank-two rate"
BAND = "median", "q25", "q75"


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks to reproduce intervals, and measure how their states move until they go.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    shortest: int = 800
    """Shortest sample interval, in ms."""
    longest: int = 1500
    """Longest sample interval, in ms."""
    dt: int = 50
    """Duration of a step in ms, of trials and of rate cells, whose time constant is 100 ms."""
    cells: tuple[str, ...] = ("rate",)
    features: int = 64
    steps: int = 10_000
    """Training updates."""
    learning_rate: float = 1e-2
    """Step size of the Adam optimiser, from which it falls to zero like a cosine."""
    seeds: int = 2

    def __post_init__(self):
        at_least(1, self, "dt", most=83)  # a cue lasts 83 ms; first, because cells are made with it
        super().__post_init__()
        at_least(100, self, "shortest", "longest", most=60_000)
        if len(self.intervals) < 3:
            raise ArgumentError(
                "--longest must be at least two steps of --dt above --shortest, got "
                f"{self.longest} and {self.shortest} at a dt of {self.dt}"
            )

    def make_cell(self, name, **options):
        own = {"dt": self.dt} if name == "rate" else {}
        return super().make_cell(name, **own, **options)

    @property
    def networks(self):
        low_rank = cells.Constrained(self.make_cell("rate"), low_rank=cells.LowRank(2))
        return {short_name(n): self.make_cell(n) for n in self.cells} | {RANK_TWO: low_rank}

    @property
    def intervals(self):
        return range(self.shortest // self.dt, -(-self.longest // self.dt))  # in steps

    def make_task(self, measure_ms=None, length=0):
        measure_ms = measure_ms or trials.Uniform(self.shortest, self.longest)
        return trials.ReadySetGo(dt=self.dt, measure_ms=measure_ms, length=length)


def ramp(batch):
    """Return the target `[T, B]` of the logit of go minus that of fixate, and what is scored."""
    production = batch.mask & (batch.inputs[..., 0] == 0)  # the fixation cue is off
    start, go = production.argmax(axis=0), batch.targets.argmax(axis=0)
    time = jnp.arange(len(batch.mask))[:, None]
    return jnp.clip((time - start) / (go - start), 0, 1) - 1, batch.mask & (time <= go)


def make_train_step(cell, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            logits = readout.apply(cell, params, batch.inputs)
            target, scored = ramp(batch)
            errors = (logits[..., 1] - logits[..., 0] - target) ** 2
            return jnp.sum(jnp.where(scored, errors, 0)) / jnp.sum(scored)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def train(config, run, name, cell, task):
    """Return the parameters of all seeds after training."""
    import optax

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    state = readout.start(config, optimizer, cell, task)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    options = {"steps": config.steps, "chunk_size": -(-config.steps // 10)}
    step = make_train_step(cell, optimizer)
    return resumable.train_on_samples(step, state, sample, **options).state.params


def follow(cell, params, sets, inputs):
    """Return the trajectories from Set to Go, and when the network goes after Set, in steps."""
    _, hidden, carries = rnnjax.unroll(cell, params.cell, inputs, return_carries=True)
    logits, states = hidden @ params.kernel + params.bias, dynamics.flat_states(carries, 2)
    paths, produced = [], []
    for k, start in enumerate(sets):
        output = np.asarray(logits[start:, k, 1] - logits[start:, k, 0], float)
        last = int(np.argmax(output > 0))  # 0 if it is never positive, or is so from the start
        before = output[last - 1]
        produced.append(last - output[last] / (output[last] - before) if last else np.nan)
        paths.append(np.asarray(states[start : start + max(last, 1) + 1, k], float))
    return paths, np.array(produced)


def describe(intervals, paths, produced):
    """Return what is claimed of one network."""
    at_set = diagnostics.principal_components(np.stack([path[0] for path in paths]), 1)
    rises = np.diff(np.asarray(at_set.projections)[:, 0]) > 0
    speeds = np.array([dynamics.mean_speed(path) for path in paths])
    same_phase = [dynamics.at_phases(path) for path in paths]
    return {
        "slope": diagnostics.line_fit(intervals, produced).slope,
        "goes": bool(np.isfinite(produced).all()),
        "speed_exponent": diagnostics.line_fit(np.log(intervals), np.log(speeds)).slope,
        "phase_over_time": dynamics.mean_distance(same_phase) / dynamics.mean_distance(paths),
        "ordered": bool(rises.all() or not rises.any()),
        "speeds": speeds.tolist(),
    }


def measure(config, run):
    task, found, rows = config.make_task(), {}, {"produced": [], "speed": [], "trajectories": []}
    steps = np.array(config.intervals)
    sample = dict(interval=steps * config.dt)
    tested = [config.make_task(int(k) * config.dt, task.total_length) for k in steps]
    tested = [one.sample_trials(jax.random.key(0), 1) for one in tested]  # nothing is random
    inputs = jnp.concatenate([one.batch.inputs for one in tested], axis=1)
    sets = [int(one.epochs["production"].start[0]) for one in tested]
    for name, cell in progress(list(config.networks.items()), "networks"):
        params = train(config, run, name, cell, task)
        own = [
            follow(cell, experiment.member(params, i), sets, inputs) for i in range(config.seeds)
        ]
        found[name] = [describe(steps, *one) for one in own]
        produced = np.stack([one[1] for one in own], axis=1) * config.dt
        rows["produced"].append({"network": name, **sample, **diagnostics.quartiles(produced)})
        speeds = np.array([entry["speeds"] for entry in found[name]]).T
        band = diagnostics.quartiles(speeds / speeds[0])
        rows["speed"].append({"network": name, **sample, **band})
        rows["trajectories"] += experiment.trajectory_rows(
            own[0][0], sample["interval"], network=name
        )
    same, law = sample["interval"], steps[0] / steps
    rows["produced"].append({"network": "identity", **sample, **dict.fromkeys(BAND, same)})
    rows["speed"].append({"network": "1 / interval", **sample, **dict.fromkeys(BAND, law)})
    run.write_tables(rows)
    first = experiment.member(params, 0)  # of the rank-two network
    tables = experiment.flow_tables(cell, first.cell, own[0][0], sample["interval"], config.seed)
    run.write_tables(tables)
    return {"intervals": same.tolist(), "networks": found}


def verdict(config, summary):
    conditions = {}
    for name, of in summary["networks"].items():
        follows = all(n["goes"] and abs(n["slope"] - 1) <= 0.1 for n in of)
        conditions[f"{name}: produced intervals follow the sample"] = follows
        slower = all(n["speed_exponent"] < -0.5 for n in of)
        conditions[f"{name}: the speed falls like 1 / interval"] = slower
        scaled = all(n["phase_over_time"] < 1 for n in of)
        conditions[f"{name}: trajectories are nearer at one phase than at one time"] = scaled
        ordered = all(n["ordered"] for n in of)
        conditions[f"{name}: states at Set are in the order of the intervals"] = ordered
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features")


def show(summary):
    names = ["slope", "speed_exponent", "phase_over_time", "ordered"]
    of = [(name, i, n) for name, found in summary["networks"].items() for i, n in enumerate(found)]
    experiment.print_table(
        ["", "seed", *names], [[name, i, *(n[k] for k in names)] for name, i, n in of]
    )


def draw(run):
    options = {"xlabel": "sample interval, ms"}
    ylabel = "produced interval, ms"
    experiment.draw_curves(run, "produced", "interval", "network", ylabel=ylabel, **options)
    options |= {
        "ylabel": "mean speed, Set to Go, relative to the shortest",
        "log_x": True,
        "log_y": True,
    }
    experiment.draw_curves(run, "speed", "interval", "network", **options)
    experiment.draw_trajectories(run)


run = experiment.Experiment("ready_set_go", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
