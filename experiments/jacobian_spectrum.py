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
bias of b keeps where its weights are zero. Inputs are white noise, by default so scaled that
pre-activations have unit variance at gain 1. In float64: in float32 a saturated tanh has no slope.

Verdict: `reproduced` if all rules in `verdict` hold, but for those without data. Rates are slopes
of medians over seeds and examples, over the later three quarters of the lags; "exponentially" means
with R^2 > 0.98. The allowance of 4/H is what networks of 16 to 64 units were found to need.

    python experiments/jacobian_spectrum.py
    python experiments/jacobian_spectrum.py --cells elman --features 64 --gains 1 1.7 1.8 1.9
"""

import dataclasses
import math
from typing import Literal

from rnnjax import diagnostics, experiment, networks
from rnnjax.cells.initializers import Gaussian, Orthogonal
from rnnjax.command_line import at_least, distinct, finite, positive, progress
from rnnjax.experiment import InitialisationOptions, Verdict, jacobian_spectra
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp

FORGET_BIAS = {"lstm": 1.0, "gru": 0.0}  # where it is not what varies
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
        finite(self, "gains", above=0, most=100)


def spectra(config, name, kernel, gain, bias):
    """Return logs, ln of the singular values `[K, S, B, N]`, and the rates expected in theory."""
    measured = drawn = config.make_cell(name)  # one's own cell, as it draws itself
    if kernel in KERNELS:
        scale = 0.0 if name == "linear" else config.input_scale  # J does not depend on the state
        options = {"kernel_init": Gaussian(scale), "recurrent_kernel_init": KERNELS[kernel](gain)}
        options |= {} if bias is None else {"forget_bias": bias}
        drawn = config.make_cell(name, param_dtype=jnp.float64, **options)
        measured = config.make_cell(name, param_dtype=jnp.float64)  # one for all initialisations
    lags = jacobian_spectra.spaced_lags(config.length, config.lags).tolist()
    shape = 2 * config.length, config.examples, config.features
    logs, params = jacobian_spectra.log_spectra(drawn, measured, config.members, lags, shape)
    return {"logs": logs} | jacobian_spectra.expected_rates(name, gain, config.input_scale, params)


@jax.enable_x64(True)
def measure(config, run):
    tables, entries, biased = {}, [], []
    lags = jacobian_spectra.spaced_lags(config.length, config.lags)
    nearest = min(config.gains, key=lambda gain: abs(math.log(gain)))  # to 1
    for name in config.cells:
        for kernel, gain in progress(jacobian_spectra.initialisations(config, name), name):
            place = {"cell": short_name(name), "kernel": kernel, "gain": gain}
            how = config, name, kernel, gain, FORGET_BIAS.get(name)
            theory = run.cached(f"{name} {kernel} {gain}", spectra, *how)
            logs, theory = theory.pop("logs"), {key: float(v) for key, v in theory.items()}
            columns, entry = jacobian_spectra.describe(place, lags, logs, theory)
            entries.append(entry)
            if (kernel, gain) in ((config.kernels[0], nearest), ("own", 1.0)):
                columns["spectrum"] = place | jacobian_spectra.of_one_sequence(lags, logs)
            for table, part in columns.items():
                tables.setdefault(table, []).append(part)
        for bias in progress(config.forget_biases if name in FORGET_BIAS else (), name):
            place, how = {"cell": name, "forget_bias": bias}, (name, "orthogonal", 1.0, bias)
            logs = run.cached(f"{name} forget bias {bias}", spectra, config, *how)["logs"]
            found, carousel = {"leading": logs[..., 0]}, {"leading": -math.log1p(math.exp(-bias))}
            leading, rates = experiment.rates_by_lag(place, lags, found, carousel)
            tables.setdefault("forget_bias", []).append(leading["leading"])
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

    linear, elman = ([e for e in of(c) if e["kernel"] == "orthogonal"] for c in ("linear", "elman"))
    usual = [0.75 * e["leading"]["rate"] for e in elman if e["gain"] == 1]
    lasting = [e["leading"] for e in biased if e["forget_bias"] >= 1]
    exact = [max(e["largest_condition"], abs(e["largest_over_bound"])) < 1e-9 for e in linear]
    bounded = [e["largest_over_bound"] < 1e-9 for e in of("linear", "elman")]
    falls = [exponential(e["leading"], -1) for e in elman if e["gain"] < 0.9 * critical]
    grows = [e["leading"]["rate"] > 0 for e in elman if e["gain"] > 1.1 * critical]
    powers = (e["root_mean_square"] for e in of("elman"))
    fits = [abs(row["rate"] - row["theory"]) < near for row in powers]
    spreads = [exponential(e["condition"], 1) for e in of("elman", "lstm", "gru")]
    slow = [row["rate"] > rate for rate in usual for row in lasting]
    outlives = [e["leading"]["rate"] > e["leading"]["theory"] for e in biased]
    slower = "falls at most 3/4 as fast as Elman, orthogonal, gain 1"
    rules = {
        "linear, orthogonal: all singular values are gain^k to 1e-9": exact,
        "linear and Elman: no singular value exceeds the bound": bounded,
        "Elman, orthogonal, gain < 0.9 critical: the leading value falls exponentially": falls,
        "Elman, orthogonal, gain > 1.1 critical: the leading value grows": grows,
        "Elman: the mean square's rate is within 4/H of the mean field's": fits,
        "Elman, LSTM, GRU: the condition number grows exponentially": spreads,
        f"LSTM and GRU, forget bias >= 1: {slower}": slow,
        "LSTM and GRU: the leading value outlives the carousel alone": outlives,
    }
    return Verdict.judge({rule: all(found) for rule, found in rules.items() if found})


def show(summary):
    rows = []
    for e in summary["initialisations"]:
        numbers = [e[n][key] for n in ("leading", "root_mean_square") for key in ("rate", "theory")]
        rows.append([f"{e['cell']} {e['kernel']} {e['gain']:g}", *numbers, e["condition"]["rate"]])
    for e in summary["forget_biases"]:
        numbers = e["leading"]["rate"], e["leading"]["theory"], None, None, None
        rows.append([f"{e['cell']} forget bias {e['forget_bias']:g}", *numbers])
    print("Rates of ln per step")
    experiment.print_table(["", "leading", "theory", "mean square", "theory", "condition"], rows)
    print(f"Critical gain of the mean field: {summary['critical_gain_of_mean_field']:.4f}\n")


def draw(run):
    from rnnjax import figures

    axes: dict = {"x": "lag", "panel": "cell", "natural_logs": True}
    by_gain: dict = axes | {"series": "gain", "label_format": "gain {:g}"}
    for name, ylabel in (("leading", "leading singular value"), ("condition", "condition number")):
        table = run.read_table(name)
        for kernel in dict.fromkeys(table["kernel"].tolist()):
            options: dict = {"table": experiment.select(table, kernel=kernel), **by_gain}
            experiment.draw_curves(run, f"{name}_{kernel}", ylabel=f"{ylabel}, {kernel}", **options)
    by_gain["table"] = experiment.select(run.read_table("root_mean_square"), cell="elman")
    by_gain |= {"panel": "kernel", "ylabel": "root mean square singular value"}
    names = {kernel: f"Elman, {kernel} kernel" for kernel in KERNELS}
    experiment.draw_curves(run, "mean_field", names=names, **by_gain)
    by_bias: dict = axes | {"series": "forget_bias", "label_format": "forget bias {:g}"}
    experiment.draw_curves(run, "forget_bias", ylabel="leading singular value", **by_bias)
    table = run.read_table("spectrum")
    places = zip(table["cell"], table["kernel"], table["gain"], strict=True)
    names = {cell: f"{networks.label(cell)}, {how}, gain {gain:g}" for cell, how, gain in places}
    run.save_figure("spectrum", figures.log_spectra(table, panel="cell", names=names))


run = experiment.Experiment("jacobian_spectrum", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
