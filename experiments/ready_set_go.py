"""How does a network reproduce an interval? By the speed at which its state moves.

Claim: in ready-set-go a network measures the interval between two cues, Ready and Set, and goes as
long after Set. The interval sets the state at Set, and this the speed of the state from Set to Go
(Remington, Narain, Hosseini, Jazayeri 2018, "Flexible sensorimotor computations through rapid
reconfiguration of cortical dynamics"), along trajectories that are scaled in time (Wang, Narain,
Hosseini, Jazayeri 2018, "Flexible timing by temporal scaling of cortical responses", where a
constant input sets the speed). We ask this of full-rank cells and of a rate network of rank two,
which after transients moves in a plane (Beiran, Meirhaeghe, Sohn, Jazayeri, Ostojic 2023,
"Parametric control of flexible timing through low-dimensional neural manifolds").

The output, the logit of go minus that of fixate, learns to ramp as in these papers, here from -1 at
Set to 0 at Go. There is no noise, so no bias towards the mean is expected. Networks are trained on
all intervals on the grid of time steps, and measured on the same.

Verdict: `reproduced` if in every network (1) the slope of produced against sample intervals is
within .1 of one: 350 ms from the middle of the range that is an error of less than one step; (2)
the mean ||s_{t+1} - s_t|| from Set to Go is a power of the interval with an exponent below -1/2,
nearer to -1, temporal scaling, than to 0, a clock; (3) trajectories of two intervals are on average
nearer to each other at the same phase than at the same time since Set; (4) the first principal
component of the states at Set rises, or falls, with the interval throughout. Else `not reproduced`;
`quick run only` if --steps, --seeds or --features is below its default.

    python experiments/ready_set_go.py --cells rate gru ./mine.py:MyCell
"""

import dataclasses
import functools

import rnnjax
from rnnjax import cells, diagnostics, dynamics, experiment, training
from rnnjax.command_line import ArgumentError, at_least, positive, progress
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, readout
from rnnjax.networks import short_name
from rnnjax.tasks import trials

import jax
import jax.numpy as jnp
import numpy as np

RANK_TWO = "rank-two rate"


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train networks to reproduce intervals, and measure how states move from Set to Go.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes a minute and a half of one CPU core.
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
    rank_two_learning_rate: float = 2e-2
    """Step size for rank two: a step of m or n changes W = m n^T / N by 1/N of it."""
    seeds: int = 2

    def __post_init__(self):
        at_least(1, self, "dt", most=83)  # a cue lasts 83 ms. First: cells are made with it
        super().__post_init__()
        at_least(2, self, "features")
        positive(self, "rank_two_learning_rate")
        at_least(100, self, "shortest", "longest", most=60_000)
        if len(self.intervals) < 3:
            least = self.shortest // self.dt * self.dt + 2 * self.dt + 1
            raise ArgumentError(f"--longest must be at least {least}, got {self.longest}")

    @property
    def intervals(self):
        return range(self.shortest // self.dt, -(-self.longest // self.dt))  # in steps

    def make_cell(self, name, **options):
        return super().make_cell(name, **({"dt": self.dt} if name == "rate" else {}), **options)

    def make_networks(self):
        rank_two = cells.Constrained(self.make_cell("rate"), low_rank=cells.LowRank(2))
        return {short_name(n): self.make_cell(n) for n in self.cells} | {RANK_TWO: rank_two}


def ramp(batch):
    """Return the target `[T, B]` of the logit of go minus that of fixate, and which steps count."""
    production = batch.mask & (batch.inputs[..., 0] == 0)  # the fixation cue is off
    start, go = production.argmax(axis=0), batch.targets.argmax(axis=0)
    time = jnp.arange(len(batch.mask))[:, None]
    return jnp.clip((time - start) / (go - start), 0, 1) - 1, batch.mask & (time <= go)


def make_train_step(cell, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            logits = readout.apply(cell, params, batch.inputs)
            target, counted = ramp(batch)
            return jnp.mean((logits[..., 1] - logits[..., 0] - target) ** 2, where=counted)

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

    start = config.rank_two_learning_rate if name == RANK_TWO else config.learning_rate
    rate = optax.cosine_decay_schedule(start, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    return resumable.train_on_samples(
        make_train_step(cell, optimizer),
        readout.start(config, optimizer, cell, task),
        functools.partial(task.sample, batch_size=config.batch_size),
        steps=config.steps,
        chunk_size=config.steps,
    ).state.params


def follow(cell, params, tested):
    """Return the trajectories from Set to Go, and when the network goes, in steps after Set."""
    inputs, starts = tested.batch.inputs, tested.epochs["production"].start.tolist()
    _, hidden, carries = rnnjax.unroll(cell, params.cell, inputs, return_carries=True)
    logits = np.asarray(hidden @ params.kernel + params.bias, float)
    states = np.asarray(dynamics.flat_states(carries, 2), float)
    output = [logits[start:, k, 1] - logits[start:, k, 0] for k, start in enumerate(starts)]
    went = np.array([dynamics.first_crossing(values) for values in output])
    ends = starts + np.ceil(np.nan_to_num(went, nan=1)).astype(int)  # one step, if it never goes
    spans = enumerate(zip(starts, ends + 1, strict=True))
    return [states[start:end, k] for k, (start, end) in spans], went


def describe(intervals, paths, went):
    """Return what is claimed of one network."""
    at_set = diagnostics.principal_components(np.stack([path[0] for path in paths]), 1).projections
    rises = np.diff(at_set, axis=0) > 0
    speeds = [dynamics.mean_speed(path) for path in paths]
    in_phase = [dynamics.at_phases(path) for path in paths]
    return {
        "slope": diagnostics.line_fit(intervals, went).slope,
        "goes": bool(np.isfinite(went).all()),
        "speed_exponent": diagnostics.line_fit(np.log(intervals), np.log(speeds)).slope,
        "phase_over_time": dynamics.mean_distance(in_phase) / dynamics.mean_distance(paths),
        "ordered": bool(rises.all() or not rises.any()),
    }


def measure(config, run):
    duration = trials.Uniform(config.shortest, config.longest)
    task = trials.ReadySetGo(dt=config.dt, measure_ms=duration)
    steps, found, rows = np.array(config.intervals), {}, []
    tested, interval = task.trials_of(steps), steps * config.dt
    for name, cell in progress(list(config.make_networks().items()), "networks"):
        params = train(config, run, name, cell, task)
        members = [experiment.member(params, i) for i in range(config.seeds)]
        paths, went = zip(*(follow(cell, member, tested) for member in members), strict=True)
        found[name] = [describe(steps, *one) for one in zip(paths, went, strict=True)]
        speeds = [[dynamics.mean_speed(path) for path in of] for of in paths]
        rows.append((name, paths[0], config.dt * np.array(went), np.array(speeds)))
        if name == RANK_TWO:
            run.write_tables(experiment.flow_tables(cell, members[0].cell, paths[0], interval))
    run.write_tables(experiment.timing_tables(interval, rows))
    return {"intervals": interval.tolist(), "networks": found}


def verdict(config, summary):
    conditions = {}
    for name, of in summary["networks"].items():
        holds = {
            "produced intervals follow the sample": lambda n: abs(n["slope"] - 1) <= 0.1,
            "the speed falls with the interval": lambda n: n["speed_exponent"] < -0.5,
            "nearer at one phase than at one time": lambda n: n["phase_over_time"] < 1,
            "states at Set are in the order of intervals": lambda n: n["ordered"],
        }
        for claim, test in holds.items():
            conditions[f"{name}: {claim}"] = all(n["goes"] and test(n) for n in of)
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features")


def show(summary):
    names = "slope", "speed_exponent", "phase_over_time", "ordered"
    each = summary["networks"].items()
    rows = [[name, i, *(n[k] for k in names)] for name, of in each for i, n in enumerate(of)]
    experiment.print_table(["network", "seed", *names], rows)


draw = experiment.draw_timing
run = experiment.Experiment("ready_set_go", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
