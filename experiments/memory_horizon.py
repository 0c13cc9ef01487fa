"""How far back a network remembers before training: forget bias, chrono initialisation, gain.

Claim: the memory of an LSTM or a GRU at initialisation is set by the bias of the gate that keeps
its state. A common bias b keeps s(b) of the state at every step (Gers, Schmidhuber, Cummins 2000;
Jozefowicz, Zaremba, Sutskever 2015); b = ln U[1, T_max - 1] spreads the memories of the units up to
T_max steps (Tallec & Ollivier 2018, "Can recurrent neural networks warp time?").

The network reads independent N(0, scale^2) inputs from a zero state. The memory horizon is the
smallest lag k at which ||(ds_T/ds_{T-k})^T v||, s the whole carry and v a random direction of unit
length, is below epsilon; the half-life is that of the exponential fitted to it at lags 1..K: the
median over seeds of medians over examples, with its 95 % bootstrap interval. Infinite means: not
within K lags, or no decay. What is not varied is the cell's own (gain 1; LSTM bias 1, GRU 0).

Theory: with all weights zero a unit keeps s(b) of its state at every step, so the horizon is
ln(epsilon) / ln s(b), the half-life ln 2 / -ln s(b); for chrono biases the norm is the root mean
square over b of s(b)^k. For an Elman network the bound ||J|| <= gain.

Verdict: `reproduced` if (1) the horizon of every gated cell measured rises with the forget bias at
every step, and (2) under chrono initialisation it rises with T_max at every step and lies between
T_max / 4 and 4 T_max wherever that is within K; else `not reproduced`.

    python experiments/memory_horizon.py
    python experiments/memory_horizon.py --cells lstm --t-maxes 50 500 --lags 3000
"""

import dataclasses
import functools
import math

import rnnjax
from rnnjax import diagnostics, experiment, networks, training
from rnnjax.cells.initializers import Chrono
from rnnjax.command_line import ArgumentError, at_least, finite, progress, rising
from rnnjax.experiment import InitialisationOptions, Verdict
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

SWEEPS = {
    "forget_bias": "forget bias",
    "t_max": "T_max of chrono initialisation",
    "gain": "recurrent gain",
}


@dataclasses.dataclass(frozen=True)
class Config(InitialisationOptions):
    """Measure memory horizons at initialisation against forget bias, chrono's T_max, and gain.

    Prints tables and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute on two CPU cores.
    """

    forget_biases: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    t_maxes: tuple[float, ...] = (5.0, 10.0, 25.0, 50.0, 100.0, 200.0)
    """T_max of chrono initialisation. It, gains and forget biases are in rising order."""
    gains: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    epsilon: float = 0.1
    """Gradient norm, relative to lag 0, below which the past counts as forgotten."""
    lags: int = 1000
    """Largest lag K: steps of the input sequences."""
    input_size: int = 2
    """Input features."""
    seeds: int = 16

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "lags", "seeds")
        at_least(1, self, "input_size")
        if not 0 < self.epsilon < 1:
            raise ArgumentError(f"--epsilon must lie between 0 and 1, got {self.epsilon}")
        finite(self, "t_maxes", above=2)
        for name in ("forget_biases", "t_maxes", "gains"):
            rising(self, name)


def make_profile(cell, config):
    """Return a function of a member's key and parameters to its log profile `[K]`."""

    def profile(key, params):
        input_key, direction_key = jax.random.split(jax.random.fold_in(key, 1))
        shape = config.lags, config.examples, config.input_size
        xs = config.input_scale * jax.random.normal(input_key, shape)
        v = diagnostics.random_carry_direction(direction_key, cell, (config.examples,))
        joint = diagnostics.log_gradient_profile(cell, params, xs, v)
        return {"profile": jnp.median(joint[::-1], axis=-1)}

    return training.over_population(profile)


def settings(config, name):
    """Return triples (sweep, value, cell): a cell draws its biases, its kernel is scaled later."""
    make, cell = functools.partial(config.make_cell, name), config.make_cell(name)
    gains = config.gains if isinstance(cell, rnnjax.Gated) else (1.0,)
    found = [("gain", gain, cell) for gain in gains]
    if name not in ("lstm", "gru"):
        return found
    found += [("forget_bias", b, make(forget_bias=b)) for b in config.forget_biases]
    return found + [("t_max", t, make(forget_bias=Chrono(t))) for t in config.t_maxes]


def theory(name, sweep, value, lags):
    """Return the log profile `[K]` of the closed form; NaN if there is none."""
    if sweep == "gain":
        return np.arange(1, lags + 1) * (math.log(value) if name == "elman" else math.nan)
    keeps = 1 / (1 + math.exp(-value))
    if sweep == "t_max":  # b = ln u, so s(b) = u / (1 + u)
        u = np.linspace(1, value - 1, 4001)
        keeps = (u[1:] + u[:-1]) / (2 + u[1:] + u[:-1])
    return diagnostics.leaky_log_profile(keeps, lags)


def summarise(profiles, epsilon):
    """Return horizon and half-life of log profiles `[K, S]`, for each of S."""
    profiles = jnp.asarray(profiles)
    return {
        "horizon": diagnostics.memory_horizon(profiles, epsilon),
        "half_life": diagnostics.half_life(profiles),
    }


def measure(config, run):
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    shown = np.unique(np.geomspace(1, config.lags, 200).astype(int))
    rows, profiles = [], []
    for name in config.cells:
        cell, short = config.make_cell(name), short_name(name)
        if name not in networks.CELLS:
            print(networks.not_varied(name, cell))
        measured = make_profile(cell, config)
        for sweep, value, cell in progress(settings(config, name), short):
            params = jax.vmap(lambda key, cell=cell: cell.init(key, config.input_size))(keys)
            if sweep == "gain" and value != 1:
                params = params._replace(recurrent_kernel=value * params.recurrent_kernel)
            of_seeds = run.cached(f"{name} {sweep} {value}", measured, keys, params)["profile"].T
            expected = theory(name, sweep, value, config.lags)
            closed = summarise(expected[:, None], config.epsilon)
            for quantity, values in summarise(of_seeds, config.epsilon).items():
                samples = np.asarray(values, float)
                found = diagnostics.confidence_interval(np.median, samples, seed=config.seed)
                limits = {key: float(number) for key, number in found._asdict().items()}
                entry = {"at": value, **limits, "theory": float(closed[quantity][0])}
                rows.append({"sweep": sweep, "cell": short, "quantity": quantity, **entry})
            place = {"sweep": sweep, "cell": short, "at": value, "lag": shown}
            band = diagnostics.quartiles(of_seeds[shown - 1])
            profiles.append({**place, **band, "theory": expected[shown - 1]})
    run.write_table("horizons", rows)
    run.write_table("profiles", profiles)
    sweeps = experiment.nested(rows, "sweep", "cell", "quantity", optional=["theory"])
    return {"epsilon": config.epsilon, "lags": config.lags, "sweeps": sweeps}


def verdict(config, summary):
    checks = {}
    for sweep in ("forget_bias", "t_max"):
        for cell, quantities in summary["sweeps"].get(sweep, {}).items():
            at, horizon = (np.array([e[n] for e in quantities["horizon"]]) for n in ("at", "value"))
            rises = (horizon[1:] > horizon[:-1]) | np.isinf(horizon[1:])
            checks[f"{cell}: horizon rises with {sweep}"] = bool(rises.all())
            if sweep == "t_max":
                near = (horizon >= at / 4) & (horizon <= 4 * at) | (4 * at > summary["lags"])
                checks[f"{cell}: horizon is of the order of t_max"] = bool(near.all())
    return Verdict.judge(checks, otherwise="no LSTM or GRU was measured")


def draw(run):
    table, profiles = run.read_table("horizons"), run.read_table("profiles")
    table |= {"median": table["value"], "q25": table["low"], "q75": table["high"]}
    epsilon = run.read_json("summary.json")["epsilon"]
    quantities = {"horizon": f"memory horizon (norm below {epsilon:g})", "half_life": "half-life"}
    by_value = {"panel": "quantity", "names": quantities, "log_y": True}
    by_lag = {"panel": "cell", "natural_logs": True, "log_x": True, "level": math.log(epsilon)}
    by_lag |= {"ylim": (math.log(epsilon / 100), math.log(10))}  # lower, it would hide the rest
    by_lag |= {"ylabel": "gradient norm relative to lag 0"}
    for sweep in dict.fromkeys(table["sweep"].tolist()):
        by_value |= {"xlabel": SWEEPS[sweep], "log_x": sweep == "t_max"}
        dashed = "Elman's bound" if sweep == "gain" else "all weights zero"
        by_value |= {"ylabel": f"steps, if finite (dashed: {dashed})"}
        chosen = experiment.select(table, sweep=sweep)
        experiment.draw_curves(run, f"horizon_{sweep}", "at", "cell", table=chosen, **by_value)
        by_lag["label_format"] = SWEEPS[sweep].split(" of ")[0] + " {:g}"
        chosen = experiment.select(profiles, sweep=sweep)
        experiment.draw_curves(run, f"profiles_{sweep}", "lag", "at", table=chosen, **by_lag)


def show(summary):
    text = experiment.estimate_text
    for sweep, cells in summary["sweeps"].items():
        print(f"{SWEEPS[sweep]}: horizon (theory) | half-life (theory), in steps")
        for cell, quantities in cells.items():
            for horizon, life in zip(quantities["horizon"], quantities["half_life"], strict=True):
                print(f"  {cell:6} {horizon['at']:6g}  {text(horizon)} | {text(life)}")


run = experiment.Experiment("memory_horizon", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
