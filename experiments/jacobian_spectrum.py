"""How much of a state survives k steps, and in how many directions.

Claim: a small change of the state at step T - k moves the state at T by d s_T / d s_{T-k}. In a
linear network with an orthogonal kernel all singular values of that matrix are gain^k. In a tanh
(Elman) network they fall exponentially with the lag k up to a gain well above 1, because tanh' < 1;
beyond it the largest grows. Whatever the gain they also spread, and the condition number grows
exponentially: few directions carry all there is of a gradient. Gates slow the fall of the largest,
not the spread (Bengio, Simard, Frasconi 1994; Saxe, McClelland, Ganguli 2014; Pennington,
Schoenholz, Ganguli 2017; Chen, Pennington, Schoenholz 2018).

Theory, dashed in the figures:

    bound         sigma_1 <= (gamma ||U||)^k, gamma = max phi' = 1: exact, if h is the whole state
                  and its only way through time is U; ||U|| is the largest of the seeds
    mean field    mean of sigma_i^2 = (g^2 E[phi'(x)^2])^k, x ~ N(0, D),
                  D = input_scale^2 + g^2 E[tanh(x)^2]: exact for an Elman network as H -> infinity
    carousel      s(b)^k, s the logistic function: what an LSTM or a GRU with a forget bias of b
                  keeps where its weights are zero

Inputs are white noise in H features; the default input scale gives pre-activations of unit variance
at gain 1, where E[phi'^2] = 0.46440. The largest of infinitely many singular values has the rate of
their mean square (Newman 1986, "The distribution of Lyapunov exponents: exact results"); at finite
H it has less. All is computed in float64: in float32 a saturated tanh has a slope of exactly zero.

Rates are slopes of medians over seeds and examples, over the later three quarters of the lags;
"exponentially" means with R^2 > 0.98. The allowance of 4/H around the mean field is not derived: it
is what networks of 16 to 64 units were found to need. The verdict leaves out rules without data.

The file is longer than 200 lines because it tests eight rules, drawn from three theories.

    python experiments/jacobian_spectrum.py
    python experiments/jacobian_spectrum.py --cells elman --features 64 --gains 1 1.7 1.8 1.9
"""

import dataclasses
import functools
import itertools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, experiment, networks
from rnnjax.cells.initializers import Gaussian, Orthogonal
from rnnjax.command_line import ArgumentError, at_least, distinct, finite, positive, progress
from rnnjax.experiment import CellOptions, SeedOptions, Verdict
from rnnjax.networks import short_name

FORGET_BIAS = {"lstm": 1.0, "gru": 0.0}  # where it is not what varies
KERNELS = {"orthogonal": Orthogonal, "gaussian": Gaussian}


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Measure the singular values of d s_T / d s_{T-k} for several cells and initialisations.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute and a half on two CPU cores.
    """

    cells: tuple[str, ...] = ("linear", *networks.CELLS)
    """Cells to compare: linear (Elman without tanh), elman, lstm, gru, or one of your own:
    ./mine.py:MyCell for a file, package.module:MyCell for a module."""
    kernels: tuple[Literal[tuple(KERNELS)], ...] = tuple(KERNELS)  # pyright: ignore
    """How the recurrent blocks are drawn, gate by gate."""
    gains: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    """Scales of the recurrent blocks."""
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
    """Input sequences for each seed."""

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "features")
        at_least(4, self, "lags")
        at_least(1, self, "examples")
        at_least(self.lags, self, "length")
        positive(self, "input_scale")
        distinct(self, "kernels")
        finite(self, "gains", above=0)
        if max(self.gains) > 100:
            raise ArgumentError(f"--gains must be positive, at most 100, got {self.gains}")
        if self.forget_biases:
            finite(self, "forget_biases")

    def make_cell(self, name, **options):
        if name == "linear":
            return rnnjax.Elman(self.features, activation_fn=rnnjax.cells.identity, **options)
        return networks.make_cell(name, self.features, **options)

    @property
    def all_lags(self):
        return np.unique([1, *np.linspace(0, self.length, self.lags + 1).round()[1:].astype(int)])


def spectra(config, name, kernel, gain, bias):
    """Return logs, ln of the singular values `[K, S, B, N]`, and the seeds' largest ln ||U||."""
    scale = 0.0 if name == "linear" else config.input_scale  # its Jacobian does not know the state
    measured = drawn = config.make_cell(name)  # one's own cell, as it draws itself
    if kernel in KERNELS:
        drawn = config.make_cell(
            name,
            **({} if bias is None else {"forget_bias": bias}),
            kernel_init=Gaussian(scale),
            recurrent_kernel_init=KERNELS[kernel](gain),
            param_dtype=jnp.float64,
        )
        measured = config.make_cell(name, param_dtype=jnp.float64)  # one for all initialisations
    logs, norms, lags = [], [], config.all_lags.tolist()
    for seed in range(config.seed, config.seed + config.seeds):
        params_key, inputs_key = jax.random.split(jax.random.key(seed))
        params = drawn.init(params_key, config.features)
        shape = 2 * config.length, config.examples, config.features
        inputs = jax.random.normal(inputs_key, shape)
        found = diagnostics.jacobian_singular_values(measured, params, inputs, lags)
        logs.append(np.asarray(found.log_values))
        if kernel in KERNELS:
            norms.append(np.linalg.norm(np.asarray(params.recurrent_kernel), 2))
    return {"logs": np.stack(logs, 1), "log_norm": math.log(max(norms)) if norms else math.nan}


def squared_slope(x):
    """Return tanh'(x)^2."""
    return (1 - np.tanh(x) ** 2) ** 2


def critical_gain(input_scale):
    """Return the gain beyond which the mean square of the singular values grows."""
    low, high = 0.5, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        grows = diagnostics.mean_field_exponent(middle, input_scale**2) > 0
        low, high = (low, middle) if grows else (middle, high)
    return high


def line(lags, values):
    """Return slope and R^2 of a straight line through the later three quarters of the lags."""
    late = lags >= lags[-1] / 4
    slope, start = np.polyfit(lags[late], values[late], 1)
    left, spread = np.var(values[late] - start - slope * lags[late]), np.var(values[late])
    return {"rate": float(slope), "r2": float(1 - left / spread) if spread > 0 else 1.0}


def describe(config, place, logs, log_norm):
    """Return what the tables and the summary say of one initialisation."""
    lags, size = config.all_lags, logs.shape[-1]
    power = np.logaddexp.reduce(2 * logs, -1) - math.log(size)
    values = {
        "leading": logs[..., 0],
        "condition": logs[..., 0] - logs[..., -1],
        "root_mean_square": power / 2,
    }
    theory = {}
    if place["cell"] in ("linear", "elman"):
        theory["leading"] = log_norm
    if place["cell"] == "elman":
        theory["root_mean_square"] = diagnostics.mean_field_exponent(
            place["gain"], config.input_scale**2
        )
    rows, entry = {}, dict(place)
    for name, value in values.items():
        found = diagnostics.quartiles(value.reshape(len(lags), -1))
        rows[name] = {**place, "lag": lags, **found, "theory": lags * theory.get(name, math.nan)}
        entry[name] = {**line(lags, found["median"]), "theory": theory.get(name)}
    entry["largest_condition"] = float(values["condition"].max())
    if "leading" in theory:
        over = values["leading"].max((1, 2)) - lags * log_norm
        entry["largest_over_bound"] = float(over.max())
    return rows, entry


def describe_bias(lags, place, logs):
    """Return the same of one forget bias."""
    found, alone = diagnostics.quartiles(logs), -math.log1p(math.exp(-place["forget_bias"]))
    entry = {**place, "leading": {**line(lags, found["median"]), "theory": alone}}
    return {**place, "lag": lags, **found, "theory": lags * alone}, entry


@jax.enable_x64(True)
def measure(config, run):
    tables: dict[str, list] = {"leading": [], "condition": [], "root_mean_square": []}
    tables |= {"spectrum": [], "forget_bias": []}
    lags, entries, biased = config.all_lags, [], []
    shown = config.kernels[0], min(config.gains, key=lambda gain: abs(math.log(gain)))
    for name in config.cells:
        drawn = [*itertools.product(config.kernels, config.gains)]
        if name != "linear" and not isinstance(config.make_cell(name), rnnjax.Gated):
            print(f"{short_name(name)}: neither kernel nor gain is varied: it is not a Gated cell")
            drawn = [("own", 1.0)]
        for kernel, gain in progress(drawn, name):
            place = {"cell": short_name(name), "kernel": kernel, "gain": gain}
            bias = FORGET_BIAS.get(name)
            found = run.cached(f"{name} {kernel} {gain}", spectra, config, name, kernel, gain, bias)
            logs, log_norm = found["logs"], float(found["log_norm"])
            rows, entry = describe(config, place, logs, log_norm)
            entries.append(entry)
            for table, columns in rows.items():
                tables[table].append(columns)
            if (kernel, gain) in (shown, ("own", 1.0)):
                index, one = np.arange(logs.shape[-1]), zip(lags, logs[:, 0, 0], strict=True)
                parts = [{**place, "lag": k, "index": index, "log_value": v} for k, v in one]
                tables["spectrum"] += parts
        biases = config.forget_biases if name in FORGET_BIAS else ()
        for bias in progress(biases, f"{name}, forget biases"):
            drawn = config, name, "orthogonal", 1.0, bias
            leading = run.cached(f"{name} forget bias {bias}", spectra, *drawn)["logs"][..., 0]
            place = {"cell": name, "forget_bias": bias}
            rows, entry = describe_bias(lags, place, leading.reshape(len(lags), -1))
            tables["forget_bias"].append(rows)
            biased.append(entry)
    for table, parts in tables.items():
        if parts:
            run.write_table(table, parts)
    critical = critical_gain(config.input_scale)
    return {
        "squared_slope_at_unit_variance": diagnostics.gaussian_mean(squared_slope, 1.0),
        "critical_gain_of_mean_field": critical,
        "initialisations": entries,
        "forget_biases": biased,
    }


def verdict(config, summary):
    entries, biased = summary["initialisations"], summary["forget_biases"]
    critical = summary["critical_gain_of_mean_field"]

    def of(*cells):
        return [entry for entry in entries if entry["cell"] in cells]

    def exponential(row, sign):
        return row["r2"] > 0.98 and sign * row["rate"] > 0

    orthogonal = [e for e in of("elman") if e["kernel"] == "orthogonal"]
    rate = next((e["leading"]["rate"] for e in orthogonal if e["gain"] == 1), math.nan)
    allowed = 4 / config.features
    rules = {
        "linear, orthogonal: all singular values are gain^k to 1e-9": [
            max(e["largest_condition"], abs(e["largest_over_bound"])) < 1e-9
            for e in of("linear")
            if e["kernel"] == "orthogonal"
        ],
        "linear and Elman: no singular value exceeds the bound": [
            e["largest_over_bound"] < 1e-9 for e in of("linear", "elman")
        ],
        "Elman, orthogonal, gain < 0.9 critical: the leading value falls exponentially": [
            exponential(e["leading"], -1) for e in orthogonal if e["gain"] < 0.9 * critical
        ],
        "Elman, orthogonal, gain > 1.1 critical: the leading value grows": [
            e["leading"]["rate"] > 0 for e in orthogonal if e["gain"] > 1.1 * critical
        ],
        "Elman: the mean square's rate is within 4/H of the mean field's": [
            abs(row["rate"] - row["theory"]) < allowed
            for row in (e["root_mean_square"] for e in of("elman"))
        ],
        "Elman, LSTM, GRU: the condition number grows exponentially": [
            exponential(e["condition"], 1) for e in of("elman", "lstm", "gru")
        ],
        "LSTM and GRU, forget bias >= 1: falls at most 3/4 as fast as Elman, orthogonal, gain 1": [
            e["leading"]["rate"] > 0.75 * rate
            for e in biased
            if e["forget_bias"] >= 1 and not math.isnan(rate)
        ],
        "LSTM and GRU: the leading value outlives the carousel alone": [
            e["leading"]["rate"] > e["leading"]["theory"] for e in biased
        ],
    }
    return Verdict.judge({rule: all(found) for rule, found in rules.items() if found})


def show(summary):
    columns = "leading", "theory", "mean square", "theory", "condition"
    print("Rates of ln per step")
    rows = []
    for e in summary["initialisations"]:
        leading, power, condition = e["leading"], e["root_mean_square"], e["condition"]
        numbers = leading["rate"], leading["theory"], power["rate"], power["theory"]
        rows.append([f"{e['cell']} {e['kernel']} {e['gain']:g}", *numbers, condition["rate"]])
    for e in summary["forget_biases"]:
        numbers = e["leading"]["rate"], e["leading"]["theory"]
        rows.append([f"{e['cell']} forget bias {e['forget_bias']:g}", *numbers, None, None, None])
    experiment.print_table(["", *columns], rows)
    print(f"Critical gain of the mean field: {summary['critical_gain_of_mean_field']:.4f}\n")


def names(table):
    """Return the labels of the cells in a table."""
    cells = dict.fromkeys(table["cell"].tolist())
    return {cell: cell if cell == "linear" else networks.label(cell) for cell in cells}


def draw(run):
    """Draw the figures of a run from its tables."""
    from matplotlib.figure import Figure

    from rnnjax import figures

    lag = "lag k = T - t (steps before the end)"
    plot = functools.partial(figures.curves, x="lag", xlabel=lag, natural_logs=True)
    labels = {"leading": "leading singular value", "condition": "condition number"}
    for table, ylabel in labels.items():
        rows = run.read_table(table)
        gains: Any = names(rows) | {gain: f"gain {gain:g}" for gain in rows["gain"].tolist()}
        for kernel in dict.fromkeys(rows["kernel"].tolist()):
            chosen = experiment.select(rows, kernel=kernel)
            figure = plot(
                chosen, series="gain", panel="cell", names=gains, ylabel=f"{ylabel}, {kernel}"
            )
            run.save_figure(f"{table}_{kernel}", figure)
    rows = run.read_table("root_mean_square")
    if (rows["cell"] == "elman").any():
        chosen = experiment.select(rows, cell="elman")
        gains = {gain: f"gain {gain:g}" for gain in rows["gain"].tolist()}
        gains |= {kernel: f"Elman, {kernel} kernel" for kernel in KERNELS}
        ylabel = "root mean square singular value"
        figure = plot(chosen, series="gain", panel="kernel", names=gains, ylabel=ylabel)
        run.save_figure("mean_field", figure)
    if (run.path / "forget_bias.csv").exists():
        rows = run.read_table("forget_bias")
        biases = {bias: f"forget bias {bias:g}" for bias in rows["forget_bias"].tolist()}
        ylabel = "leading singular value"
        figure = plot(rows, series="forget_bias", panel="cell", names=biases, ylabel=ylabel)
        run.save_figure("forget_bias", figure)

    rows = run.read_table("spectrum")
    cells = list(dict.fromkeys(rows["cell"].tolist()))
    figure = Figure(figsize=(1 + 4 * len(cells), 3.8), layout="constrained")
    for ax, name in zip(
        figure.subplots(1, len(cells), squeeze=False, sharey=True)[0], cells, strict=True
    ):
        part = experiment.select(rows, cell=name)
        values = part["log_value"].reshape(-1, len(np.unique(part["index"]))) / math.log(10)
        colours = np.linspace(0, 1, values.shape[1])
        for column, colour in zip(values.T, colours, strict=True):
            ax.plot(np.unique(part["lag"]), column, color=(colour, 0.3, 1 - colour), lw=0.8)
        title = f"{names(rows)[name]}, {part['kernel'][0]}, gain {part['gain'][0]:g}"
        ax.set(title=title, xlabel=lag)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("all singular values, log10")
    run.save_figure("spectrum", figure)


run = experiment.Experiment("jacobian_spectrum", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
