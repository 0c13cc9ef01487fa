"""What does each online method keep of the gradient, lag by lag, and in which cell?

Claim: what a method that goes forward in time keeps of a gradient follows from what it keeps of
ds/dtheta (Marschall, Cho, Savin 2020, "A unified framework of online learning algorithms for
training recurrent neural networks", JMLR 21). RTRL keeps all; truncation the lags up to k; SnAp(1)
what stays in one unit, which is all where units see only themselves (Menick et al. 2020,
arXiv:2006.07232); UORO all on average, under noise that grows with the lag (Tallec, Ollivier 2017,
arXiv:1702.05043). RFLO (Murray 2019) and e-prop (Bellec et al. 2020) cut the path through the
recurrent kernel: all is left at lag 1, and less with every lag; in a linear cell e-prop keeps all.

Networks at initialisation read N(0, 1) inputs from a zero state; the loss is the sum of the last
outputs. g_k is the part of its gradient that comes from lag k, and g^_k what a method has of it.
The share kept is E g^_k . g_k / |g_k|^2, the mean over networks and, for UORO, draws. In float64;
networks count where |g_k| is above 1e-9 of their largest (less may show rounding), lags if most do.

Verdict: `reproduced` if in every cell, of the methods that serve it: the share is within 1e-3 of 1
for RTRL at all lags, for truncation up to lag k (beyond, of 0), for SnAp(1) at all lags where units
see only themselves, for e-prop at all lags of a linear cell, for all three local methods at lag 1;
that of UORO is within four standard errors of 1 at all lags, and its relative standard deviation
larger at the longest than at lag 1; and where units see each other SnAp(1), e-prop, and RFLO unless
--decay is above its default, keep less than half at lag 10 (if a step is a I + b Q, Q a random
rotation, a unit keeps 1 / (sum over j of C(9, j)^2 (b / a)^(2 j)): less if b > a / 9). Else `not
reproduced`; `quick run only` if --length, --seeds, --draws or --features is below its default.

    python experiments/online_quality.py
    python experiments/online_quality.py --cells gru ./mine.py:MyCell --truncated 5 --decay 0.8
"""

import dataclasses

import rnnjax
from rnnjax import diagnostics, experiment, online, training
from rnnjax.command_line import ArgumentError, at_least, progress
from rnnjax.experiment import CellOptions, SeedOptions, Verdict
from rnnjax.networks import label, short_name
from rnnjax.online import local
from rnnjax.online.base import Example

import jax
import jax.numpy as jnp
import numpy as np

LATE, LESS, EXACT, ERRORS, ROUNDING = 10, 0.5, 1e-3, 4, 1e-9
METHODS = {"rtrl": "RTRL", "snap": "SnAp(1)", "eprop": "e-prop", "rflo": "RFLO"}
METHODS |= {"uoro": "UORO", "truncated": "truncation"}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Measure what online methods keep of the gradient of networks at initialisation, by lag.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute and a half on two CPU cores.
    """

    cells: tuple[str, ...] = ("elman", "lstm", "gru", "indrnn", "lru")
    features: int = 16
    length: int = 40
    """Steps of the sequences, and the largest lag."""
    input_size: int = 2
    """Input features."""
    truncated: int = 10
    """Steps k of truncated back-propagation."""
    decay: float = 0.5
    """Of the eligibility traces of RFLO in a step."""
    draws: int = 64
    """Draws of UORO's random signs, for each network."""
    seeds: int = 16

    def __post_init__(self):
        super().__post_init__()
        at_least(LATE, self, "length")
        at_least(1, self, "input_size")
        at_least(1, self, "truncated", most=self.length - 1)
        at_least(2, self, "draws", "seeds")
        if not 0 <= self.decay <= 1:
            raise ArgumentError(f"--decay must be from 0 to 1, got {self.decay}")


def draw_networks(config, cell):
    """Return a key, parameters and inputs `[T, D]` of every network, in float64."""
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    init, inputs, signs = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
    params = jax.vmap(lambda key: cell.init(key, config.input_size))(init)
    params = jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float64)), params)
    xs = [jax.random.normal(key, (config.length, config.input_size)) for key in inputs]
    return signs, params, jnp.stack(xs)


def quality(config, name, method):
    """Return the `GradientQuality` of all parameters together, each entry `[S, T]`."""
    made = {"rtrl": online.RTRL(), "snap": online.SnAp(1), "eprop": online.EProp()}
    made |= {"uoro": online.UORO(), "rflo": online.RFLO(config.decay)}
    made |= {"truncated": online.Truncated(config.truncated)}
    cell, draws = config.make_cell(name), config.draws if method == "uoro" else 1

    def of_one(key, params, xs):
        of = made[method], cell, params, xs, jnp.sum, key
        return diagnostics.gradient_quality(*of, draws=draws)["all"]._asdict()

    return training.over_population(of_one)(*draw_networks(config, cell))


def structure(config, name):
    """Return whether units see only themselves, and whether the cell is linear."""
    _, params, xs = draw_networks(config, cell := config.make_cell(name))
    first = Example(experiment.member(params, 0), cell.initial_carry(()), xs[0, 0], weight=1.0)
    return {"unitwise": local.is_unitwise(cell, first), "linear": isinstance(cell, rnnjax.Linear)}


@jax.enable_x64(True)
def measure(config, run):
    def known(values):
        return [float(value) if np.isfinite(value) else None for value in values]

    tables, cells = {"share": [], "norm": [], "deviation": []}, {}
    for name in config.cells:
        cell = short_name(name)
        place = {"cell": cell, "lag": np.arange(1, config.length + 1)}
        shares, errors, noise, not_served = {}, {}, [], {}
        for method in progress(list(METHODS), cell):
            try:
                found = run.cached(f"{cell} {method}", quality, config, name, method)
            except TypeError as error:  # the method needs what the cell does not have
                if method == "rtrl":  # which serves every cell that has derivatives
                    raise ArgumentError(f"--cells {name}: {error}") from error
                not_served[METHODS[method]] = str(error)
                continue
            mean, error, _ = diagnostics.mean_share(diagnostics.GradientQuality(**found), ROUNDING)
            shares[method], errors[method] = known(mean), known(error)
            band = {"median": mean, "q25": mean - 2 * error, "q75": mean + 2 * error}
            wide = np.logical_or.accumulate(4 * error > 1.5)  # would hide the other methods
            tables["share"].append({**place, "method": method, **band, "drawn": 1 - wide})
            if method == "uoro":  # and the exact gradient, in natural logs
                norm, variance = jnp.log(found["norm"]), jnp.log(found["variance"])
                deviation = jnp.where(jnp.isfinite(norm + mean), variance / 2, jnp.inf)
                tables["norm"].append(place | experiment.quantile_band(norm))
                tables["deviation"].append(place | experiment.quantile_band(deviation))
                noise = known(np.exp(tables["deviation"][-1]["median"]))
        entry = {"share": shares, "error": errors, "deviation": noise, "not_served": not_served}
        cells[cell] = structure(config, name) | entry
        for table, rows in tables.items():
            run.write_table(table, rows)
    return {"truncated": config.truncated, "cells": cells}


def verdict(config, summary):
    conditions, last = {}, summary["truncated"]
    for cell, entry in summary["cells"].items():
        share = {method: np.array(values, float) for method, values in entry["share"].items()}
        error, noise = (np.array(a, float) for a in (entry["error"]["uoro"], entry["deviation"]))
        noise = noise[np.isfinite(noise)]
        off = {method: np.abs(values - 1) for method, values in share.items()}  # NaN: not measured
        off["truncated"] = np.abs(share["truncated"] - (np.arange(len(error)) < last))
        conditions |= {
            f"{cell}: RTRL keeps all": not np.any(off["rtrl"] > EXACT),
            f"{cell}: truncation keeps lags 1 to {last} alone": not np.any(
                off["truncated"] > EXACT
            ),
            f"{cell}: UORO has no bias": not np.any(off["uoro"] > ERRORS * error),
            f"{cell}: UORO's noise grows with the lag": noise[-1] > noise[0],
        }
        exact = {"snap": entry["unitwise"], "eprop": entry["linear"], "rflo": False}
        for method in (method for method in exact if method in share):
            where, lags = ("at every lag", None) if exact[method] else ("at lag 1", 1)
            text = f"{cell}: {METHODS[method]} keeps all {where}"
            conditions[text] = not np.any(off[method][:lags] > EXACT)
            if not entry["unitwise"] and (method != "rflo" or config.decay <= Config.decay):
                text = f"{cell}: {METHODS[method]} keeps less than half at lag {LATE}"
                conditions[text] = share[method][LATE - 1] < LESS
    return Verdict.judge(conditions).unless_quick(config, "length", "seeds", "draws", "features")


def show(summary):
    for cell, entry in summary["cells"].items():
        lags = [lag for lag in (1, 2, 5, 10, 20, 40) if lag <= len(entry["share"]["rtrl"])]
        kept = {METHODS[method]: share for method, share in entry["share"].items()}
        rows = [[name, *(share[lag - 1] for lag in lags)] for name, share in kept.items()]
        experiment.print_table([f"{cell}: kept at lag", *map(str, lags)], rows, digits=3)
        for message in entry["not_served"].values():
            print(message)


def draw(run):
    names = METHODS | {cell: label(cell) for cell in run.read_json("summary.json")["cells"]}
    words = {"names": names, "panel": "cell", "columns": 3, "ylim": (-0.25, 1.5), "level": 0}
    words |= {"ylabel": "share of the gradient kept"}
    table = run.read_table("share")
    table |= {key: np.where(table["drawn"], table[key], np.nan) for key in ("median", "q25", "q75")}
    experiment.draw_curves(run, "share", "lag", "method", table=table, **words)
    words = {"names": names, "natural_logs": True, "ylabel": "norm of the gradient from a lag"}
    experiment.draw_curves(run, "norm", "lag", "cell", **words)
    words |= {"ylabel": "UORO: standard deviation over gradient norm"}
    experiment.draw_curves(run, "deviation", "lag", "cell", **words)


run = experiment.Experiment("online_quality", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
