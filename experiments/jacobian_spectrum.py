"""How much of a state survives k steps, and in how many directions.

Claim: a small change of the state at step T - k moves the state at T by d s_T / d s_{T-k}. In a
linear network with an orthogonal kernel all singular values of that matrix are gain^k. In a tanh
(Elman) network they fall exponentially with the lag k up to a gain well above 1, because tanh' < 1;
beyond it the largest grows. Whatever the gain they also spread, and the condition number grows
exponentially: few directions carry all there is of a gradient. Gates slow the fall of the largest,
not the spread (Bengio, Simard, Frasconi 1994; Saxe, McClelland, Ganguli 2014; Pennington,
Schoenholz, Ganguli 2017; Chen, Pennington, Schoenholz 2018).

Theory, dashed in the figures: sigma_1 <= ||U||^k, exact where h is the whole state and tanh' <= 1;
the mean of sigma_i^2 by mean-field theory (`diagnostics.mean_field_exponent`), exact for an Elman
network as H -> infinity, where sigma_1 has the same rate (Newman 1986, "The distribution of
Lyapunov exponents: exact results"); and the carousel s(b)^k, what an LSTM or a GRU with a forget
bias of b keeps where its weights are zero. Inputs are white noise, by default of a scale for
pre-activations of unit variance at gain 1. All is in float64: in float32 a saturated tanh has a
slope of exactly zero.

Verdict: `reproduced` if all rules in `verdict` hold, but for those without data. Rates are slopes
of medians over seeds and examples, over the later three quarters of the lags; "exponentially" means
with R^2 > 0.98. The allowance of 4/H is what networks of 16 to 64 units were found to need.

The file is longer than 200 lines because its verdict has eight rules, drawn from three theories.

    python experiments/jacobian_spectrum.py
    python experiments/jacobian_spectrum.py --cells elman --features 64 --gains 1 1.7 1.8 1.9
"""

import collections
import dataclasses
import functools
import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics, experiment, networks
from rnnjax.cells.initializers import Gaussian, Orthogonal
from rnnjax.command_line import ArgumentError, at_least, distinct, positive, progress
from rnnjax.experiment import InitialisationOptions, Verdict, jacobian_spectra
from rnnjax.networks import short_name

FORGET_BIAS = {"lstm": 1.0, "gru": 0.0}  # where it is not what varies
BOUNDED = "linear", "elman"  # h is the whole state, and U its only way through time
KERNELS = {"orthogonal": Orthogonal, "gaussian": Gaussian}


@dataclasses.dataclass(frozen=True)
class Config(InitialisationOptions):
    """Measure the singular values of d s_T / d s_{T-k} for several cells and initialisations.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute and a half on two CPU cores.
    """

    cells: tuple[str, ...] = ("linear", *networks.CELLS)
    kernels: tuple[Literal[tuple(KERNELS)], ...] = tuple(KERNELS)  # pyright: ignore
    """How the recurrent blocks are drawn, gate by gate."""
    gains: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    forget_biases: tuple[float, ...] = (0.0, 1.0, 3.0, 5.0)
    """Of the LSTM and the GRU, with orthogonal kernels of gain 1 [elsewhere 1 and 0]."""
    input_scale: float = 0.77827
    """Standard deviation of what the inputs add to a pre-activation [default: sqrt(0.60571)]."""
    features: int = 32
    """Hidden units H, and inputs; the LSTM's state has 2 H entries."""
    length: int = 100
    """Largest lag; as many steps come before it, in which the state forgets its start."""
    lags: int = 10
    """Lags measured, evenly spaced, besides lag 1."""
    examples: int = 2

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "features")
        at_least(4, self, "lags")
        at_least(self.lags, self, "length")
        positive(self, "input_scale")
        distinct(self, "kernels")
        if max(self.gains) > 100:
            raise ArgumentError(f"--gains must be positive, at most 100, got {self.gains}")

    @property
    def all_lags(self):
        return np.unique([1, *np.linspace(0, self.length, self.lags + 1).round()[1:].astype(int)])


def spectra(config, name, kernel, gain, bias):
    """Return logs, ln of the singular values `[K, S, B, N]`, and the seeds' largest ln ||U||."""
    measured = drawn = config.make_cell(name)  # one's own cell, as it draws itself
    if kernel in KERNELS:
        scale = 0.0 if name == "linear" else config.input_scale  # J does not depend on the state
        options = {"kernel_init": Gaussian(scale), "recurrent_kernel_init": KERNELS[kernel](gain)}
        options |= {} if bias is None else {"forget_bias": bias}
        drawn = config.make_cell(name, param_dtype=jnp.float64, **options)
        measured = config.make_cell(name, param_dtype=jnp.float64)  # one for all initialisations
    lags, shape = config.all_lags.tolist(), (2 * config.length, config.examples, config.features)
    logs, drawn = jacobian_spectra.log_spectra(drawn, measured, config.members, lags, shape)
    kernels = [np.asarray(params.recurrent_kernel) for params in drawn if name in BOUNDED]
    norms = [np.linalg.norm(U, 2) for U in kernels]
    return {"logs": logs, "log_norm": math.log(max(norms)) if norms else math.nan}


def theory(config, place, log_norm):
    """Return the expected rates; that of the leading value is a bound."""
    rates = {"leading": log_norm} if place["cell"] in BOUNDED else {}
    if place["cell"] == "elman":
        g, variance = place["gain"], config.input_scale**2
        rates["root_mean_square"] = diagnostics.mean_field_exponent(g, variance)
    return rates


@jax.enable_x64(True)
def measure(config, run):
    tables, entries, biased, lags = collections.defaultdict(list), [], [], config.all_lags
    nearest = min(config.gains, key=lambda gain: abs(math.log(gain)))  # to 1
    for name in config.cells:
        drawn = [*itertools.product(config.kernels, config.gains)]
        if why := jacobian_spectra.why_not_varied(functools.partial(config.make_cell, name)):
            print(f"{short_name(name)}: neither kernel nor gain is varied: {why}")
            drawn = [("own", 1.0)]
        for kernel, gain in progress(drawn, name):
            place = {"cell": short_name(name), "kernel": kernel, "gain": gain}
            how = config, name, kernel, gain, FORGET_BIAS.get(name)
            found = run.cached(f"{name} {kernel} {gain}", spectra, *how)
            logs, expected = found["logs"], theory(config, place, float(found["log_norm"]))
            columns, entry = jacobian_spectra.describe(place, lags, logs, expected)
            entries.append(entry)
            if (kernel, gain) in ((config.kernels[0], nearest), ("own", 1.0)):
                columns["spectrum"] = place | jacobian_spectra.of_one_sequence(lags, logs)
            for table, part in columns.items():
                tables[table].append(part)
        biases = config.forget_biases if name in FORGET_BIAS else ()
        for bias in progress(biases, f"{name}, forget biases"):
            place, how = {"cell": name, "forget_bias": bias}, (name, "orthogonal", 1.0, bias)
            found = run.cached(f"{name} forget bias {bias}", spectra, config, *how)
            leading, carousel = {"leading": found["logs"][..., 0]}, -math.log1p(math.exp(-bias))
            columns, rates = experiment.rates_by_lag(place, lags, leading, {"leading": carousel})
            tables["forget_bias"].append(columns["leading"])
            biased.append(place | rates)
    for table, parts in tables.items():
        run.write_table(table, parts)
    return {
        "squared_slope_at_unit_variance": diagnostics.mean_squared_slope(1.0),
        "critical_gain_of_mean_field": diagnostics.critical_gain(config.input_scale**2),
        "initialisations": entries,
        "forget_biases": biased,
    }


def verdict(config, summary):
    entries, biased = summary["initialisations"], summary["forget_biases"]
    critical, near = summary["critical_gain_of_mean_field"], 4 / config.features

    def of(*cells):
        return [e for e in entries if e["cell"] in cells]

    def exponential(row, sign):
        return row["r2"] > 0.98 and sign * row["rate"] > 0

    linear, elman = ([e for e in of(c) if e["kernel"] == "orthogonal"] for c in BOUNDED)
    usual = [0.75 * e["leading"]["rate"] for e in elman if e["gain"] == 1]
    power = [e["root_mean_square"] for e in of("elman")]
    lasting = [e["leading"] for e in biased if e["forget_bias"] >= 1]
    exact = [max(e["largest_condition"], abs(e["largest_over_bound"])) < 1e-9 for e in linear]
    bounded = [e["largest_over_bound"] < 1e-9 for e in of("linear", "elman")]
    falls = [exponential(e["leading"], -1) for e in elman if e["gain"] < 0.9 * critical]
    grows = [e["leading"]["rate"] > 0 for e in elman if e["gain"] > 1.1 * critical]
    fits = [abs(row["rate"] - row["theory"]) < near for row in power]
    spreads = [exponential(e["condition"], 1) for e in of("elman", "lstm", "gru")]
    slow = [row["rate"] > rate for rate in usual for row in lasting]
    outlives = [e["leading"]["rate"] > e["leading"]["theory"] for e in biased]
    rules = {
        "linear, orthogonal: all singular values are gain^k to 1e-9": exact,
        "linear and Elman: no singular value exceeds the bound": bounded,
        "Elman, orthogonal, gain < 0.9 critical: the leading value falls exponentially": falls,
        "Elman, orthogonal, gain > 1.1 critical: the leading value grows": grows,
        "Elman: the mean square's rate is within 4/H of the mean field's": fits,
        "Elman, LSTM, GRU: the condition number grows exponentially": spreads,
        "LSTM and GRU, forget bias >= 1: falls at most 3/4 as fast as Elman, orthogonal, gain 1": (
            slow
        ),
        "LSTM and GRU: the leading value outlives the carousel alone": outlives,
    }
    return Verdict.judge({rule: all(found) for rule, found in rules.items() if found})


def show(summary):
    rows, pairs = [], [*itertools.product(("leading", "root_mean_square"), ("rate", "theory"))]
    for e in summary["initialisations"]:
        numbers = [e[name][key] for name, key in pairs]
        rows.append([f"{e['cell']} {e['kernel']} {e['gain']:g}", *numbers, e["condition"]["rate"]])
    for e in summary["forget_biases"]:
        numbers = e["leading"]["rate"], e["leading"]["theory"]
        rows.append([f"{e['cell']} forget bias {e['forget_bias']:g}", *numbers, None, None, None])
    print("Rates of ln per step")
    experiment.print_table(["", "leading", "theory", "mean square", "theory", "condition"], rows)
    print(f"Critical gain of the mean field: {summary['critical_gain_of_mean_field']:.4f}\n")


def draw(run):
    from rnnjax import figures

    axes = {"x": "lag", "panel": "cell", "natural_logs": True}
    by_gain = {"series": "gain", "label_format": "gain {:g}"} | axes
    for name, ylabel in (("leading", "leading singular value"), ("condition", "condition number")):
        table = run.read_table(name)
        for kernel in dict.fromkeys(table["kernel"].tolist()):
            options = {"table": experiment.select(table, kernel=kernel), **by_gain}
            experiment.draw_curves(run, f"{name}_{kernel}", ylabel=f"{ylabel}, {kernel}", **options)
    by_gain["table"] = experiment.select(run.read_table("root_mean_square"), cell="elman")
    by_gain |= {"panel": "kernel", "ylabel": "root mean square singular value"}
    names = {kernel: f"Elman, {kernel} kernel" for kernel in KERNELS}
    experiment.draw_curves(run, "mean_field", names=names, **by_gain)
    by_bias = {"series": "forget_bias", "label_format": "forget bias {:g}"} | axes
    experiment.draw_curves(run, "forget_bias", ylabel="leading singular value", **by_bias)
    table = run.read_table("spectrum")
    places = zip(table["cell"], table["kernel"], table["gain"], strict=True)
    names = {cell: f"{networks.label(cell)}, {how}, gain {gain:g}" for cell, how, gain in places}
    run.save_figure("spectrum", figures.log_spectra(table, panel="cell", names=names))


run = experiment.Experiment("jacobian_spectrum", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
