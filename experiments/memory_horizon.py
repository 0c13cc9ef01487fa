"""How far back a network remembers before training: forget bias, chrono initialisation, gain.

Claim: the memory of an LSTM or a GRU at initialisation is set by the bias of the gate that keeps
its state. A common bias b keeps s(b) of the state at every step (Gers, Schmidhuber, Cummins 2000;
Jozefowicz, Zaremba, Sutskever 2015); b = ln U[1, T_max - 1] spreads the memories of the units up to
T_max steps (Tallec & Ollivier 2018, "Can recurrent neural networks warp time?").

The network reads independent N(0, scale^2) inputs from a zero state. The memory horizon is the
smallest lag k at which ||(ds_T/ds_{T-k})^T v||, s the whole carry and v a random direction of unit
length, is below epsilon; the half-life is that of the exponential fitted to it at lags 1..K. Each
is taken of a seed's median over its examples; given are the median over seeds and its 95 %
bootstrap interval. Infinite means: not within K lags, or no decay. Where gain and bias are not
varied they are the cell's own defaults (gain 1; LSTM 1, GRU 0).

Theory: with all weights zero a unit's state is multiplied by s(b) at every step, so the horizon is
ln(epsilon) / ln s(b), the half-life ln 2 / -ln s(b); for chrono biases the norm is the root mean
square over b of s(b)^k. For an Elman network the bound ||J|| <= gain.

Verdict: `reproduced` if (1) the horizon of every gated cell measured rises with the forget bias at
every step, and (2) under chrono initialisation it rises with T_max at every step and lies between
T_max / 4 and 4 T_max wherever that is within K; else `not reproduced`.

The file is longer than 200 lines because it varies three settings, each with its closed form.

    python experiments/memory_horizon.py
    python experiments/memory_horizon.py --cells lstm --t-maxes 50 500 --lags 3000
"""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, experiment, networks, training
from rnnjax.cells.initializers import Chrono
from rnnjax.command_line import ArgumentError, at_least, finite, option, progress
from rnnjax.diagnostics import memory
from rnnjax.experiment import CellOptions, SeedOptions, Verdict
from rnnjax.networks import short_name

GATED = "lstm", "gru"
SWEEPS = {
    "forget_bias": "forget bias",
    "t_max": "T_max of chrono initialisation",
    "gain": "recurrent gain",
}
THEORY = {"gain": "Elman's bound"}  # else the closed form for weights of zero, for both cells alike


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Measure memory horizons at initialisation against forget bias, chrono's T_max, and gain.

    Prints tables and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute on two CPU cores.
    """

    forget_biases: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    """Biases of the LSTM's forget gate and of the GRU's z, which keeps h, in rising order."""
    t_maxes: tuple[float, ...] = (5.0, 10.0, 25.0, 50.0, 100.0, 200.0)
    """T_max of chrono initialisation, in rising order."""
    gains: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    """Factors of the orthogonal recurrent blocks, in rising order."""
    epsilon: float = 0.1
    """Gradient norm, relative to lag 0, below which the past counts as forgotten."""
    lags: int = 1000
    """Largest lag K: steps of the input sequences."""
    input_size: int = 2
    """Input features."""
    input_scale: float = 1.0
    """Standard deviation of the inputs."""
    examples: int = 4
    """Input sequences for each seed."""
    seeds: int = 16

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "lags", "seeds")
        at_least(1, self, "input_size", "examples")
        if not 0 <= self.input_scale < math.inf:
            raise ArgumentError(f"--input-scale must be at least 0, got {self.input_scale}")
        if not 0 < self.epsilon < 1:
            raise ArgumentError(f"--epsilon must lie between 0 and 1, got {self.epsilon}")
        for name, least in (("forget_biases", -math.inf), ("t_maxes", 2), ("gains", 0)):
            finite(self, name, above=least)
            values = getattr(self, name)
            if not all(a < b for a, b in itertools.pairwise(values)):
                raise ArgumentError(f"{option(name)} must be in rising order, got {values}")


def make_profile(cell, config):
    """Return a function of a member's key and parameters to its log profile `[K]`."""

    def profile(key, params):
        input_key, direction_key = jax.random.split(jax.random.fold_in(key, 1))
        shape = config.lags, config.examples, config.input_size
        xs = config.input_scale * jax.random.normal(input_key, shape)
        like = cell.initial_carry((config.examples,))
        leaves, tree = jax.tree.flatten(like)
        keys = jax.random.split(direction_key, len(leaves))
        v = [jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
        length = jnp.sqrt(sum(jnp.sum(a**2, -1, keepdims=True) for a in v))
        cotangent = jax.tree.unflatten(tree, [a / length for a in v])
        joint = diagnostics.log_gradient_profile(cell, params, xs, cotangent)
        return {"profile": jnp.median(joint[::-1], axis=-1)}

    return training.over_population(profile)


def settings(config, name):
    """Return triples (sweep, value, cell): a cell's biases are drawn, its kernel is scaled.

    A cell of one's own has no known forget gate, and no known recurrent kernel unless it is Gated.
    """
    make = functools.partial(config.make_cell, name)
    gains = config.gains if isinstance(make(), rnnjax.Gated) else (1.0,)
    found = [("gain", gain, make()) for gain in gains]
    if name not in GATED:
        return found
    found += [("forget_bias", b, make(forget_bias=b)) for b in config.forget_biases]
    return found + [("t_max", t, make(forget_bias=Chrono(t))) for t in config.t_maxes]


def theory(name, sweep, value, lags):
    """Return the log profile `[K]` of the closed form, or None."""
    k = np.arange(1, lags + 1)
    if sweep == "gain":
        return k * math.log(value) if name == "elman" else None
    keeps = np.array([1 / (1 + math.exp(-value))])
    if sweep == "t_max":  # b = ln u, so s(b) = u / (1 + u)
        u = np.linspace(1, value - 1, 4001)
        keeps = (u[1:] + u[:-1]) / (2 + u[1:] + u[:-1])
    powers = 2 * np.log(keeps) * k[:, None]
    return np.logaddexp.reduce(powers, axis=1) / 2 - math.log(len(keeps)) / 2


def summarise(profiles, epsilon):
    """Return horizon and half-life of log profiles `[K, S]`, for each of S."""
    profiles = jnp.asarray(profiles)
    return {
        "horizon": memory.memory_horizon(profiles, epsilon),
        "half_life": diagnostics.half_life(profiles),
    }


def measure(config, run):
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    rows, shown = [], []
    for name in config.cells:
        cell = config.make_cell(name)
        if name not in networks.CELLS:
            print(networks.not_varied(name, cell))
        measured = make_profile(cell, config)
        short = short_name(name)
        for sweep, value, cell in progress(settings(config, name), short):
            params = jax.vmap(lambda key, cell=cell: cell.init(key, config.input_size))(keys)
            if sweep == "gain" and value != 1:
                params = params._replace(recurrent_kernel=value * params.recurrent_kernel)
            found = run.cached(f"{name} {sweep} {value}", measured, keys, params)
            profiles = found["profile"].T  # [K, S]
            expected = theory(name, sweep, value, config.lags)
            closed = {} if expected is None else summarise(expected[:, None], config.epsilon)
            for quantity, values in summarise(profiles, config.epsilon).items():
                found = memory.confidence_interval(
                    lambda v: np.median(v, -1), np.asarray(values, float), seed=config.seed
                )
                found = {"value": found.value, "low": found.low, "high": found.high}
                found = {key: float(number) for key, number in found.items()}
                found["theory"] = float(closed[quantity][0]) if closed else math.nan
                rows.append(
                    {
                        "sweep": sweep,
                        "cell": short,
                        "quantity": quantity,
                        "at": value,
                        **found,
                    }
                )
            lag = np.unique(np.geomspace(1, config.lags, 200).astype(int))
            row = {"sweep": sweep, "cell": short, "at": value, "lag": lag}
            row |= diagnostics.quartiles(profiles[lag - 1])
            shown.append(row | {"theory": math.nan if expected is None else expected[lag - 1]})
    run.write_table("horizons", rows)
    run.write_table("profiles", shown)
    return {"epsilon": config.epsilon, "lags": config.lags, "sweeps": tabulate(rows)}


def tabulate(rows):
    """Return sweep -> cell -> quantity -> list of entries."""
    sweeps = {}
    for row in rows:
        entry = {key: row[key] for key in ("at", "value", "low", "high", "theory")}
        if math.isnan(entry["theory"]):
            del entry["theory"]
        cells = sweeps.setdefault(row["sweep"], {})
        cells.setdefault(row["cell"], {}).setdefault(row["quantity"], []).append(entry)
    return sweeps


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
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table, profiles = run.read_table("horizons"), run.read_table("profiles")
    table |= {"median": table["value"], "q25": table["low"], "q75": table["high"]}
    epsilon = run.read_json("summary.json")["epsilon"]
    quantities = {"horizon": f"memory horizon (norm below {epsilon:g})", "half_life": "half-life"}
    for sweep in dict.fromkeys(table["sweep"].tolist()):
        dashed = THEORY.get(sweep, "all weights zero")
        chosen = experiment.select(table, sweep=sweep)
        figure = figures.curves(
            chosen,
            "at",
            "cell",
            panel="quantity",
            names=quantities,
            xlabel=SWEEPS[sweep],
            ylabel=f"steps, if finite (dashed: {dashed})",
            log_x=sweep == "t_max",
            log_y=True,
        )
        run.save_figure(f"horizon_{sweep}", figure)
        chosen = experiment.select(profiles, sweep=sweep)
        figure = figures.curves(
            chosen,
            "lag",
            "at",
            panel="cell",
            names={at: f"{SWEEPS[sweep].split(' of ')[0]} {at:g}" for at in chosen["at"].tolist()},
            xlabel="lag k = T - t (steps before the end)",
            ylabel="gradient norm relative to lag 0",
            natural_logs=True,
            log_x=True,
        )
        for ax in figure.axes:  # what is far below epsilon would hide the rest
            ax.axhline(math.log10(epsilon), color="black", linestyle=":", linewidth=0.8)
            ax.set_ylim(math.log10(epsilon) - 2, 1)
        run.save_figure(f"profiles_{sweep}", figure)


def show(summary):
    for sweep, cells in summary["sweeps"].items():
        print(f"{SWEEPS[sweep]}: horizon (theory) | half-life (theory), in steps")
        for cell, quantities in cells.items():
            for horizon, life in zip(quantities["horizon"], quantities["half_life"], strict=True):
                print(f"  {cell:6} {horizon['at']:6g}  {estimate(horizon)} | {estimate(life)}")


def estimate(entry):
    value = f"{entry['value']:.4g} [{entry['low']:.4g}, {entry['high']:.4g}]"
    expected = f" ({entry['theory']:.4g})" if "theory" in entry else ""
    return f"{value:>28}{expected:9}"


run = experiment.Experiment("memory_horizon", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
