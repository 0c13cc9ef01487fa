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

The file is longer than 200 lines because it measures two ways to draw a kernel over a grid of gains
and biases.

    python experiments/initialisation.py
    python experiments/initialisation.py --cells lstm --gains 0.9 1 1.1 --input-scale 0.1
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, experiment, networks, training
from rnnjax.cells.initializers import Fused, Orthogonal
from rnnjax.command_line import ArgumentError, at_least, finite, progress
from rnnjax.experiment import CellOptions, SeedOptions, Verdict
from rnnjax.networks import short_name

KEEPS = {"lstm": "f", "gru": "z"}  # the gate that a forget bias is for
DEFAULT_BIAS = {"elman": 0.0, "lstm": rnnjax.LSTM(1).forget_bias, "gru": rnnjax.GRU(1).forget_bias}
DRAWS = {"per gate": Orthogonal(), "fused": Fused(Orthogonal())}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Measure the half-life of gradients at initialisation over recurrent gain and forget bias.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute on two CPU cores.
    """

    gains: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
    """Factors of the orthogonal recurrent kernel."""
    forget_biases: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    """Biases of the LSTM's forget gate and of the GRU's z, which keeps h."""
    lags: int = 60
    """Steps K that the gradient passes through."""
    input_size: int = 2
    """Input features."""
    input_scale: float = 1.0
    """Standard deviation of the inputs; 0 leaves the cell at rest."""
    examples: int = 8
    """Input sequences for each seed."""
    seeds: int = 8

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "lags")
        at_least(1, self, "input_size", "examples")
        if not 0 <= self.input_scale < np.inf:
            raise ArgumentError(f"--input-scale must be at least 0, got {self.input_scale}")
        finite(self, "gains", above=0)
        finite(self, "forget_biases")


def make_cell(name, how, config):
    """Return the cell that draws orthogonal blocks and has no forget bias; one's own as it is."""
    if name not in networks.CELLS:
        return config.make_cell(name)
    bias = {"forget_bias": 0.0} if name in KEEPS else {}
    return config.make_cell(name, recurrent_kernel_init=DRAWS[how], **bias)


def rescale(cell, keeps, params, gain, bias):
    """Return what would have been drawn with this gain and forget bias."""
    if not isinstance(cell, rnnjax.Gated):  # its recurrent kernel is not known
        return params
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
        v = jax.random.normal(direction_key, (config.examples, cell.output_size))
        v = v / jnp.linalg.norm(v, axis=-1, keepdims=True)
        final = cell.initial_carry((config.examples,))
        (cotangent,) = jax.vjp(cell.output, final)[1](v)  # of a loss that reads the output along v
        parts = diagnostics.log_gradient_profile_by_part(cell, params, xs, cotangent)
        joint = functools.reduce(jnp.logaddexp, [2 * part for part in jax.tree.leaves(parts)]) / 2
        to_h = parts.h[::-1] if isinstance(cell, rnnjax.Gated) else joint[::-1]
        return {"to_h": to_h, "joint": joint[::-1]}

    return training.over_population(profiles)


def settings(config, name):
    """Return pairs of gain and forget bias: a grid, and the default bias at every gain and at 1.

    A cell of one's own has no known forget gate, and no known recurrent kernel unless it is Gated.
    """
    if name not in networks.CELLS and not isinstance(config.make_cell(name), rnnjax.Gated):
        return [(1.0, 0.0)]
    biases = config.forget_biases if name in KEEPS else ()
    grid = itertools.product((*config.gains, 1.0), (*biases, DEFAULT_BIAS.get(name, 0.0)))
    return [*dict.fromkeys(grid)]


def measure(config, run):
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    tables, cells = {"half_lives": [], "profiles": []}, {}
    for name in config.cells:
        bare = make_cell(name, "per gate", config)
        profiles = make_profiles(bare, KEEPS.get(name), config)  # compiled once for a cell
        entry: dict[str, Any] = {"forget_bias": DEFAULT_BIAS.get(name, 0.0)}
        if name not in networks.CELLS:
            print(networks.not_varied(name, bare))
        arrived = []
        for how in DRAWS if name in KEEPS else ("per gate",):
            cell = make_cell(name, how, config)
            params = jax.vmap(lambda key, c=cell: c.init(key, config.input_size))(keys)
            for gain, bias in progress(settings(config, name), f"{name}, {how}"):
                now = [jnp.full(config.seeds, value) for value in (gain, bias)]
                found = run.cached(f"{name} {how} {gain} {bias}", profiles, keys, params, *now)
                to_h, joint = found["to_h"], found["joint"]  # [S, K, B]
                place = {"cell": short_name(name), "draw": how, "gain": gain, "forget_bias": bias}
                joint = np.moveaxis(np.asarray(joint), 1, 0).reshape(config.lags, -1)  # [K, S * B]
                row = diagnostics.quartiles(diagnostics.half_life(jnp.asarray(joint)))
                row["log10_norm"] = np.median(joint[-1]) / np.log(10)
                tables["half_lives"].append({**place, **row})
                if (gain, bias) == (1.0, DEFAULT_BIAS.get(name, 0.0)):
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
        cells[short_name(name)] = entry
    for table, rows in tables.items():
        run.write_table(table, rows)
    return {"lags": config.lags, "cells": cells}


def radius(cell, params):
    """Return the median over seeds and gates of the spectral radius of a recurrent block."""
    if not isinstance(cell, rnnjax.Gated):
        return None
    blocks = jnp.stack(cell.split(params.recurrent_kernel))
    return float(np.median(np.abs(np.linalg.eigvals(np.asarray(blocks, float))).max(-1)))


def compare(per_gate, fused):
    """Return how much longer the gradient is with blocks of their own, log10, over seeds."""
    ratio = np.median(per_gate - fused, axis=-1) / np.log(10)  # a seed's median over its examples
    spread = {name: float(value) for name, value in diagnostics.quartiles(ratio).items()}
    return spread | {"least": float(ratio.min())}


def verdict(config, summary):
    conditions = {}
    for name, entry in summary["cells"].items():
        if "log10_ratio" in entry:
            ratio = entry["log10_ratio"]
            conditions[f"{name}: the median ratio is above 100"] = ratio["median"] > 2
            conditions[f"{name}: every seed's ratio is above 10"] = ratio["least"] > 1
    return Verdict.judge(conditions, otherwise="no LSTM or GRU was measured")


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table, profiles = run.read_table("half_lives"), run.read_table("profiles")
    lags, fused = int(profiles["lag"].max()), table["draw"] == "fused"
    table["network"] = np.where(fused, np.char.add(table["cell"], " fused"), table["cell"])
    names: Any = {f"{cell} fused": f"{cell.upper()}, one fused draw" for cell in KEEPS}
    names |= {"fused": "one fused draw", "per gate": "a block for each gate"}
    gated = experiment.select(table, np.isin(table["cell"], [*KEEPS]))
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
    at_default = table["forget_bias"] == [DEFAULT_BIAS.get(cell, 0.0) for cell in table["cell"]]
    by_gain = experiment.select(table, at_default)
    by_gain = experiment.select(by_gain, np.argsort(by_gain["gain"], kind="stable"))
    figure = figures.curves(
        by_gain,
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
        xlabel="lag k = T - t (steps before the end)",
        ylabel="gradient norm relative to lag 0",
        natural_logs=True,
    )
    run.save_figure("profiles", figure)


def show(summary):
    print(f"At gain 1 and the default forget bias; norms {summary['lags']} steps back, log10")
    columns = "half-life", "norm", "fused: half-life", "norm", "ratio", "least of seeds"
    rows = []
    for name, entry in summary["cells"].items():
        drawn = [entry.get(how, {}) for how in DRAWS]
        numbers = [found.get(key) for found in drawn for key in ("half_life", "log10_norm")]
        numbers += [entry.get("log10_ratio", {}).get(key) for key in ("median", "least")]
        rows.append([name, *numbers])
    experiment.print_table(["cell", *columns], rows)


run = experiment.Experiment("initialisation", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
