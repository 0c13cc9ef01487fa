"""How long a gradient lives before training: recurrent gain, forget bias, and how gates are drawn.

Claim: drawing the recurrent kernel of an LSTM or a GRU as one orthogonal [H, G*H] matrix, as some
libraries do, instead of one orthogonal [H, H] block for each gate, shrinks the gradient over 60
steps by orders of magnitude: a block of the wide matrix has singular values below 1 and a spectral
radius near 1/sqrt(G). (Orthogonal blocks: Saxe, McClelland, Ganguli 2014. The forget bias: Gers,
Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015.)

The network reads independent N(0, scale^2) inputs from a zero state; the loss reads h_T along a
random direction v. The half-life is that of the exponential fitted to ||(dh_T/ds_{T-k})^T v|| at
lags k = 1..K, s the whole carry (white in the map where this grows); the ratio is that of
||(dh_K/dh_0)^T v|| between the two ways to draw, at gain 1 and the cell's own default forget bias
(LSTM 1, GRU 0).

Verdict: `reproduced` if for every gated cell the ratio is above 100 in the median over seeds, and
above 10 for every seed; else `not reproduced`.

    python experiments/initialisation.py
    python experiments/initialisation.py --cells lstm --gains 0.9 1 1.1 --input-scale 0.1
"""

import dataclasses
import functools
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, training
from rnnjax.cells.initializers import Fused, Orthogonal
from rnnjax.command_line import ArgumentError, at_least, main, progress
from rnnjax.experiment import RunOptions, in_run

CELLS = {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}
KEEPS = {"lstm": "f", "gru": "z"}  # the gate that a forget bias is for
DEFAULT_BIAS = {name: float(getattr(cell(1), "forget_bias", 0)) for name, cell in CELLS.items()}
DRAWS = {"per gate": Orthogonal(), "fused": Fused(Orthogonal())}


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Measure the half-life of gradients at initialisation over recurrent gain and forget bias.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute on two CPU cores.
    """

    cells: tuple[Literal[tuple(CELLS)], ...] = tuple(CELLS)  # pyright: ignore
    """Which cells to measure."""
    gains: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
    """Factors of the orthogonal recurrent kernel."""
    forget_biases: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    """Biases of the LSTM's forget gate and of the GRU's z, which keeps h."""
    lags: int = 60
    """Steps K that the gradient passes through."""
    features: int = 64
    """Hidden units of each cell."""
    input_size: int = 2
    """Input features."""
    input_scale: float = 1.0
    """Standard deviation of the inputs; 0 leaves the cell at rest."""
    examples: int = 8
    """Input sequences for each seed."""
    seeds: int = 8
    """Networks for each setting."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""

    def __post_init__(self):
        at_least(2, self, "lags")
        at_least(1, self, "features", "input_size", "examples", "seeds")
        at_least(0, self, "seed")
        if not 0 <= self.input_scale < np.inf:
            raise ArgumentError(f"--input-scale must be at least 0, got {self.input_scale}")
        if not self.cells or len(set(self.cells)) < len(self.cells):
            raise ArgumentError(f"--cells must name some of {', '.join(CELLS)}, each once")
        for name, values in (("gains", self.gains), ("forget-biases", self.forget_biases)):
            if not values or len(set(values)) < len(values) or not np.isfinite(values).all():
                raise ArgumentError(f"--{name} must be finite numbers, each once, got {values}")
        if min(self.gains) <= 0:
            raise ArgumentError(f"--gains must be positive, got {self.gains}")


def make_cell(name, how, config):
    """Return the cell that draws orthogonal blocks and has no forget bias."""
    bias = {"forget_bias": 0.0} if name in KEEPS else {}
    return CELLS[name](config.features, recurrent_kernel_init=DRAWS[how], **bias)


def rescale(cell, keeps, params, gain, bias):
    """Return what would have been drawn with this gain and forget bias."""
    kernel, biases = gain * params.recurrent_kernel, params.bias
    if keeps is not None:
        at = cell.gate_names.index(keeps) * cell.features
        biases = biases.at[at : at + cell.features].add(bias)
    return params._replace(recurrent_kernel=kernel, bias=biases)


def make_profiles(cell, keeps, config):
    """Return a function of a member's key, parameters, gain and bias to two profiles `[K, B]`:

    ln ||(dh_T/dh_{T-k})^T v||, and the same for the whole carry.
    """

    def profiles(key, params, gain, bias):
        params = rescale(cell, keeps, params, gain, bias)
        input_key, direction_key = jax.random.split(jax.random.fold_in(key, 1))
        shape = config.lags, config.examples, config.input_size
        xs = config.input_scale * jax.random.normal(input_key, shape)
        v = jax.random.normal(direction_key, (config.examples, config.features))
        v = v / jnp.linalg.norm(v, axis=-1, keepdims=True)
        cotangent = jax.tree.map(jnp.zeros_like, cell.initial_carry((config.examples,)))
        parts = diagnostics.log_gradient_profile_by_part(cell, params, xs, cotangent._replace(h=v))
        joint = functools.reduce(jnp.logaddexp, [2 * part for part in parts]) / 2
        return {"to_h": parts.h[::-1], "joint": joint[::-1]}

    return training.over_population(profiles)


def settings(config, name):
    """Return pairs of gain and forget bias: a grid, and the default bias at every gain and at 1."""
    biases = config.forget_biases if name in KEEPS else ()
    grid = itertools.product((*config.gains, 1.0), (*biases, DEFAULT_BIAS[name]))
    return [*dict.fromkeys(grid)]


def measure(config, run):
    keys = jnp.stack([jax.random.key(s) for s in range(config.seed, config.seed + config.seeds)])
    tables, cells = {"half_lives": [], "profiles": []}, {}
    for name in config.cells:
        bare = make_cell(name, "per gate", config)
        profiles = make_profiles(bare, KEEPS.get(name), config)  # compiled once for a cell
        entry: dict[str, Any] = {"forget_bias": DEFAULT_BIAS[name]}
        arrived = []
        for how in DRAWS if name in KEEPS else ("per gate",):
            cell = make_cell(name, how, config)
            params = jax.vmap(lambda key, c=cell: c.init(key, config.input_size))(keys)
            for gain, bias in progress(settings(config, name), f"{name}, {how}"):
                now = [jnp.full(config.seeds, value) for value in (gain, bias)]
                found = run.cached(f"{name} {how} {gain} {bias}", profiles, keys, params, *now)
                to_h, joint = found["to_h"], found["joint"]  # [S, K, B]
                place = {"cell": name, "draw": how, "gain": gain, "forget_bias": bias}
                joint = np.moveaxis(np.asarray(joint), 1, 0).reshape(config.lags, -1)  # [K, S * B]
                row = diagnostics.quartiles(diagnostics.half_life(jnp.asarray(joint)))
                row["log10_norm"] = np.median(joint[-1]) / np.log(10)
                tables["half_lives"].append({**place, **row})
                if (gain, bias) == (1.0, DEFAULT_BIAS[name]):
                    lag = {"lag": np.arange(1, config.lags + 1)}
                    tables["profiles"].append({**place, **lag, **diagnostics.quartiles(joint)})
                    arrived.append(np.asarray(to_h)[:, -1])  # [S, B]
                    entry[how] = {
                        "half_life": float(row["median"]),
                        "log10_norm": float(row["log10_norm"]),
                        "spectral_radius": radius(cell, params),
                    }
        if len(arrived) == 2:
            entry["log10_ratio"] = compare(*arrived)
        cells[name] = entry
    for table, rows in tables.items():
        run.write_table(table, rows)
    summary = {"lags": config.lags, "cells": cells, "verdict": verdict(cells)}
    print_summary(summary)
    return summary


def radius(cell, params):
    """Return the median over seeds and gates of the spectral radius of a recurrent block."""
    blocks = jnp.stack(cell.split(params.recurrent_kernel))
    return float(np.median(np.abs(np.linalg.eigvals(np.asarray(blocks, float))).max(-1)))


def compare(per_gate, fused):
    """Return how much longer the gradient is with blocks of their own, log10, over seeds."""
    ratio = np.median(per_gate - fused, axis=-1) / np.log(10)  # a seed's median over its examples
    spread = {name: float(value) for name, value in diagnostics.quartiles(ratio).items()}
    return spread | {"least": float(ratio.min())}


def verdict(cells):
    ratios = [entry["log10_ratio"] for entry in cells.values() if "log10_ratio" in entry]
    if not ratios:
        return "no gated cell was measured"
    shrinks = all(ratio["median"] > 2 and ratio["least"] > 1 for ratio in ratios)
    return "reproduced" if shrinks else "not reproduced"


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table, profiles = run.read_table("half_lives"), run.read_table("profiles")
    lags, fused = int(profiles["lag"].max()), table["draw"] == "fused"
    table["network"] = np.where(fused, np.char.add(table["cell"], " fused"), table["cell"])
    names: Any = {f"{cell} fused": f"{cell.upper()}, one fused draw" for cell in KEEPS}
    names |= {"fused": "one fused draw", "per gate": "a block for each gate"}
    gated = choose(table, table["cell"] != "elman")
    if len(gated["cell"]):
        plot = functools.partial(
            figures.heat_maps,
            x="gain",
            y="forget_bias",
            panel="network",
            names=names,
            xlabel="recurrent gain",
            ylabel="forget bias",
        )
        label = "half-life of the gradient, steps\n(white: it does not decay)"
        run.save_figure("half_lives", plot(gated, value="median", label=label, log=True))
        gated["shown"] = np.clip(gated["log10_norm"], -6, 6)
        label = f"log10 of the gradient norm\n{lags} steps back, cut off at ±6"
        run.save_figure("norms", plot(gated, value="shown", label=label, symmetric=True))
    at_default = table["forget_bias"] == [DEFAULT_BIAS[cell] for cell in table["cell"]]
    figure = figures.curves(
        sort(choose(table, at_default), "gain"),
        "gain",
        "network",
        names=names,
        xlabel="recurrent gain",
        ylabel="half-life of the gradient, steps",
        log_y=True,
    )
    run.save_figure("half_life_by_gain", figure)
    figure = figures.curves(
        profiles,
        "lag",
        "draw",
        panel="cell",
        names=names,
        xlabel="lag k (steps back from the end)",
        ylabel="gradient norm relative to lag 0",
        natural_logs=True,
    )
    run.save_figure("profiles", figure)


def choose(table, rows):
    return {name: column[rows] for name, column in table.items()}


def sort(table, by):
    return choose(table, np.argsort(table[by], kind="stable"))


def print_summary(summary):
    print(f"At gain 1 and the default forget bias; norms {summary['lags']} steps back, log10")
    columns = "half-life", "norm", "fused: half-life", "norm", "ratio", "least of seeds"
    print(f"{'cell':6}" + "".join(f"{name:>17}" for name in columns))
    for name, entry in summary["cells"].items():
        drawn = [entry[how] for how in DRAWS if how in entry]
        numbers = [found[key] for found in drawn for key in ("half_life", "log10_norm")]
        numbers += [entry["log10_ratio"][k] for k in ("median", "least") if "log10_ratio" in entry]
        print(f"{name:6}" + "".join(f"{number:17.4g}" for number in numbers))
    print(f"Verdict: {summary['verdict']}")


def run(config: Config) -> dict[str, Any]:
    """Run the experiment and return its summary."""
    return in_run("initialisation", config, functools.partial(measure, config), draw)


if __name__ == "__main__":
    main(Config, run)
