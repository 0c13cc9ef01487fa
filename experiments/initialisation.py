"""How long a gradient lives before training: recurrent gain, forget bias, and how gates are drawn.

Claim: drawing the recurrent kernel of an LSTM or a GRU as one orthogonal [H, G*H] matrix, as some
libraries do, instead of one orthogonal [H, H] block for each gate, shrinks the gradient over 60
steps by orders of magnitude: a block of the wide matrix has singular values below 1 and a spectral
radius near 1/sqrt(G). (Orthogonal blocks: Saxe, McClelland, Ganguli 2014. The forget bias: Gers,
Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015.)

The network reads independent N(0, scale^2) inputs from a zero state; the loss reads h_T along a
random direction v. The half-life is that of the exponential fitted to ||(dh_T/ds_{T-k})^T v|| at
lags k = 1..K, s the whole carry; the ratio is that of ||(dh_K/dh_0)^T v|| between the two ways to
draw, at gain 1 and the cell's own default forget bias (LSTM 1, GRU 0).

Verdict: `reproduced` if for every gated cell the ratio is above 100 in the median over seeds, and
above 10 for every seed; else `not reproduced`.

    python experiments/initialisation.py
    python experiments/initialisation.py --cells lstm --gains 0.9 1 1.1 --input-scale 0.1
"""

import dataclasses
import functools
import itertools

import rnnjax
from rnnjax import diagnostics, experiment, networks, training
from rnnjax.cells.initializers import Fused, Orthogonal
from rnnjax.command_line import at_least, progress
from rnnjax.experiment import InitialisationOptions, Verdict
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

KEEPS = {"lstm": "f", "gru": "z"}  # the gate that a forget bias is for
DEFAULT_BIAS = {"elman": 0.0, "lstm": rnnjax.LSTM(1).forget_bias, "gru": rnnjax.GRU(1).forget_bias}
DRAWS = {"per gate": Orthogonal(), "fused": Fused(Orthogonal())}


@dataclasses.dataclass(frozen=True)
class Config(InitialisationOptions):
    """Measure the half-life of gradients at initialisation over recurrent gain and forget bias.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute on two CPU cores.
    """

    gains: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
    forget_biases: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    lags: int = 60
    """Steps K that the gradient passes through."""
    input_size: int = 2
    """Input features."""
    examples: int = 8
    seeds: int = 8

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "lags")
        at_least(1, self, "input_size")


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

    ln ||(dh_T/dh_{T-k})^T v||, for a cell with a gate that keeps h, and that for the whole carry.
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
        to_h = joint if keeps is None else parts.h
        return {"to_h": to_h[::-1], "joint": joint[::-1]}

    return training.over_population(profiles)


def settings(config, name):
    """Return pairs of gain and forget bias: a grid, and the default bias at every gain and at 1."""
    if name not in networks.CELLS and not isinstance(config.make_cell(name), rnnjax.Gated):
        return [(1.0, 0.0)]
    biases = config.forget_biases if name in KEEPS else ()
    grid = itertools.product((*config.gains, 1.0), (*biases, DEFAULT_BIAS.get(name, 0.0)))
    return [*dict.fromkeys(grid)]


def measure(config, run):
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    tables, cells = {"half_lives": [], "profiles": []}, {}
    for name in config.cells:
        bare, keeps = make_cell(name, "per gate", config), KEEPS.get(name)
        profiles = make_profiles(bare, keeps, config)  # compiled once for a cell
        default = 1.0, DEFAULT_BIAS.get(name, 0.0)
        entry, arrived = {"forget_bias": default[1]}, []
        if name not in networks.CELLS:
            print(networks.not_varied(name, bare))
        for how in DRAWS if name in KEEPS else ("per gate",):
            cell = make_cell(name, how, config)
            params = jax.vmap(lambda key, c=cell: c.init(key, config.input_size))(keys)
            for gain, bias in progress(settings(config, name), f"{name}, {how}"):
                now = [jnp.full(config.seeds, value) for value in (gain, bias)]
                found = run.cached(f"{name} {how} {gain} {bias}", profiles, keys, params, *now)
                joint = np.moveaxis(found["joint"], 1, 0).reshape(config.lags, -1)  # [K, S * B]
                row = diagnostics.quartiles(diagnostics.half_life(jnp.asarray(joint)))
                row["log10_norm"] = np.median(joint[-1]) / np.log(10)
                place = {"cell": short_name(name), "draw": how, "gain": gain, "forget_bias": bias}
                tables["half_lives"].append({**place, **row})
                if (gain, bias) == default:
                    tables["profiles"].append({**place, **experiment.profile_rows(found["joint"])})
                    arrived.append(found["to_h"][:, -1])  # [S, B]
                    values = {"half_life": row["median"], "log10_norm": row["log10_norm"]}
                    entry[how] = {key: float(value) for key, value in values.items()}
                    entry[how]["spectral_radius"] = diagnostics.median_spectral_radius(cell, params)
        if len(arrived) == 2:  # how much longer it is with blocks of their own, log10
            ratio = np.median(arrived[0] - arrived[1], axis=-1) / np.log(10)  # over examples
            spread = diagnostics.quartiles(ratio) | {"least": ratio.min()}
            entry["log10_ratio"] = {key: float(value) for key, value in spread.items()}
        cells[short_name(name)] = entry
    for table, rows in tables.items():
        run.write_table(table, rows)
    return {"lags": config.lags, "cells": cells}


def verdict(config, summary):
    conditions = {}
    for name, entry in summary["cells"].items():
        if "log10_ratio" in entry:
            ratio = entry["log10_ratio"]
            conditions[f"{name}: the median ratio is above 100"] = ratio["median"] > 2
            conditions[f"{name}: every seed's ratio is above 10"] = ratio["least"] > 1
    return Verdict.judge(conditions, otherwise="no LSTM or GRU was measured")


def draw(run):
    table, profiles = run.read_table("half_lives"), run.read_table("profiles")
    lags, fused = int(profiles["lag"].max()), table["draw"] == "fused"
    table["network"] = np.where(fused, np.char.add(table["cell"], " fused"), table["cell"])
    names = {f"{cell} fused": f"{cell.upper()}, one fused draw" for cell in KEEPS}
    names |= {"fused": "one fused draw", "per gate": "a block for each gate"}
    labels = {"names": names, "xlabel": "recurrent gain"}
    gated = experiment.select(table, cell=[*KEEPS])
    gated["shown"] = np.clip(gated["log10_norm"], -6, 6)
    maps = {"x": "gain", "y": "forget_bias", "panel": "network", "ylabel": "forget bias", **labels}
    plot = functools.partial(experiment.draw_heat_maps, run, table=gated, **maps)
    label = "half-life of the gradient, steps\n(white: it does not decay)"
    plot("half_lives", value="median", label=label, log=True)
    label = f"log10 of the gradient norm\n{lags} steps back, cut off at ±6"
    plot("norms", value="shown", label=label, symmetric=True)
    at_default = table["forget_bias"] == [DEFAULT_BIAS.get(cell, 0.0) for cell in table["cell"]]
    by_gain = experiment.select(table, at_default)
    by_gain = experiment.select(by_gain, np.argsort(by_gain["gain"], kind="stable"))
    labels |= {"ylabel": "half-life of the gradient, steps", "table": by_gain, "log_y": True}
    experiment.draw_curves(run, "half_life_by_gain", "gain", "network", **labels)
    options = {"names": names, "ylabel": "gradient norm relative to lag 0", "natural_logs": True}
    experiment.draw_curves(run, "profiles", "lag", "draw", panel="cell", **options)


def show(summary):
    print(f"At gain 1 and the default forget bias; norms {summary['lags']} steps back, log10")
    rows, keys = [], ("half_life", "log10_norm")
    for name, entry in summary["cells"].items():
        numbers = [entry.get(how, {}).get(key) for how in DRAWS for key in keys]
        numbers += [entry.get("log10_ratio", {}).get(key) for key in ("median", "least")]
        rows.append([name, *numbers])
    columns = "half-life", "norm", "fused: half-life", "norm", "ratio", "least of seeds"
    experiment.print_table(["cell", *columns], rows)


run = experiment.Experiment("initialisation", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
