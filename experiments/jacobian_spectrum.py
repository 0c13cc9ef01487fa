"""How much of a state survives k steps, and in how many directions.

Claim: a small change of the state at step T - k moves the state at T by d s_T / d s_{T-k}. In a
tanh (Elman) network the singular values of that matrix, all equal to gain^k in a linear network
with an orthogonal kernel, fall exponentially with the lag k up to a gain well above 1, because
tanh' < 1; beyond it the largest grows. Whatever the gain they also spread: the condition number
grows exponentially, so that few directions carry all there is of a gradient. Gates slow the fall
of the largest, not the spread (Bengio, Simard, Frasconi 1994; Saxe, McClelland, Ganguli 2014;
Pennington, Schoenholz, Ganguli 2017; Chen, Pennington, Schoenholz 2018).

Theory, dashed in the figures:

    bound         sigma_1 <= (gamma ||U||)^k, gamma = max phi' = 1: exact, for the one-matmul cells
    mean field    mean of sigma_i^2 = (g^2 E[phi'(x)^2])^k, x ~ N(0, D),
                  D = input_scale^2 + g^2 E[tanh(x)^2]: exact for an Elman network as H -> infinity
    carousel      s(b)^k, s the logistic function: all that survives in an LSTM or a GRU whose
                  weights are zero, for a forget bias b

The inputs are white noise of H features, and the default input scale gives pre-activations of unit
variance at gain 1, where E[phi'^2] = 0.46440. The largest of infinitely many singular values has
the rate of their mean square (Newman 1986, "The distribution of Lyapunov exponents: exact
results"); the largest of H, which fluctuate, has less.

Rates are slopes of medians over seeds and examples, between a quarter of the largest lag and it.
Falling or growing "exponentially" means R^2 > 0.98 for that line. The last line of the table and
`verdict` in summary.json say which rules hold; a rule without data in this run is left out.

    python experiments/jacobian_spectrum.py
    python experiments/jacobian_spectrum.py --features 64 --gains 1 1.8 1.9 2 --seeds 8
"""

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells.initializers import Gaussian, Orthogonal
from rnnjax.command_line import ArgumentError, at_least, in_run, main, positive, progress

CELLS = {
    "linear": functools.partial(rnnjax.Elman, activation_fn=rnnjax.cells.identity),
    "elman": rnnjax.Elman,
    "lstm": rnnjax.LSTM,
    "gru": rnnjax.GRU,
}
FORGET_BIAS = {"lstm": 1.0, "gru": 0.0}  # unless the experiment varies it
KERNELS = {"orthogonal": Orthogonal, "gaussian": Gaussian}
NAMES = {"linear": "linear, same kernels", "orthogonal": "orthogonal kernel"}
NAMES |= {"gaussian": "Gaussian kernel"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure the singular values of d s_T / d s_{T-k} for several cells and initialisations.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute and a half on two CPU cores.
    """

    cells: tuple[Literal[tuple(CELLS)], ...] = tuple(CELLS)  # pyright: ignore
    """Which cells to compare."""
    kernels: tuple[Literal[tuple(KERNELS)], ...] = tuple(KERNELS)  # pyright: ignore
    """How the recurrent blocks are drawn, gate by gate."""
    gains: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    """Scales of the recurrent blocks."""
    forget_biases: tuple[float, ...] = (0.0, 1.0, 3.0, 5.0)
    """Of the LSTM and the GRU, with orthogonal kernels of gain 1."""
    input_scale: float = 0.77827
    """Standard deviation of each unit's input; the default is sqrt(0.60571)."""
    features: int = 32
    """Hidden units H, and inputs; the LSTM's state has 2 H entries."""
    length: int = 100
    """Largest lag; as many steps come before it, in which the state forgets its start."""
    lags: int = 10
    """Lags measured, evenly spaced, besides lag 1."""
    examples: int = 4
    """Input sequences for each seed."""
    seeds: int = 4
    """Networks drawn for each initialisation."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    out: Path | None = None
    """Directory to write to [default: runs/jacobian_spectrum-DATE-TIME]."""
    overwrite: bool = False
    """Replace a run that is already in --out."""
    redraw: bool = False
    """Only draw the figures of the finished run in --out again."""

    def __post_init__(self):
        at_least(2, self, "features")
        at_least(4, self, "lags")
        at_least(1, self, "examples", "seeds")
        at_least(0, self, "seed")
        positive(self, "input_scale")
        if self.length < self.lags:
            raise ArgumentError(f"--length must be at least --lags ({self.lags}), got {self.length}")
        for name, allowed in (("cells", CELLS), ("kernels", KERNELS)):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ArgumentError(f"--{name} must name some of {', '.join(allowed)}, each once")
        if not self.gains or len(set(self.gains)) < len(self.gains) or min(self.gains) <= 0:
            raise ArgumentError(f"--gains must be positive, each once, got {self.gains}")
        biases = self.forget_biases
        if len(set(biases)) < len(biases) or not all(map(math.isfinite, biases)):
            raise ArgumentError(f"--forget-biases must be finite, each once, got {biases}")

    @property
    def all_lags(self):
        return sorted({1, *(round(k) for k in np.linspace(0, self.length, self.lags + 1)[1:])})


def spectra(config, name, kernel, gain, bias=None):
    """Return ln of the singular values `[K, S, B, N]`, and the largest ln ||U|| of the seeds."""
    options = {} if name not in FORGET_BIAS else {"forget_bias": bias or 0.0}
    scale = 0.0 if name == "linear" else config.input_scale  # its Jacobian knows no state
    drawn = CELLS[name](
        config.features,
        kernel_init=Gaussian(scale),
        recurrent_kernel_init=KERNELS[kernel](gain),
        **options,
    )
    measured = CELLS[name](config.features)  # one program for all initialisations
    logs, norms = [], []
    for seed in range(config.seed, config.seed + config.seeds):
        params_key, inputs_key = jax.random.split(jax.random.key(seed))
        params = drawn.init(params_key, config.features)
        shape = 2 * config.length, config.examples, config.features
        inputs = jax.random.normal(inputs_key, shape)
        found = diagnostics.jacobian_singular_values(measured, params, inputs, config.all_lags)
        logs.append(np.asarray(found.log_values, np.float64))
        norms.append(np.linalg.norm(np.asarray(params.recurrent_kernel, np.float64), 2))
    return np.stack(logs, 1), math.log(max(norms))


def gaussian_mean(function, variance):
    """Return E[function(x)], x ~ N(0, variance)."""
    x, weight = np.polynomial.hermite_e.hermegauss(150)
    return weight @ function(math.sqrt(variance) * x) / weight.sum()


def mean_field_rate(gain, input_scale):
    """Return ln(g^2 E[phi'^2]) / 2 at the self-consistent variance of a tanh network."""
    variance = input_scale**2 + gain**2
    for _ in range(10000):
        mean = gaussian_mean(lambda x: np.tanh(x) ** 2, variance)
        variance, before = input_scale**2 + gain**2 * mean, variance
        if abs(variance - before) < 1e-12:
            break
    return math.log(gain**2 * gaussian_mean(lambda x: np.cosh(x) ** -4.0, variance)) / 2


def critical_gain(input_scale):
    """Return the gain from which on the mean square of the singular values grows."""
    low, high = 0.5, 50.0
    for _ in range(40):
        middle = (low + high) / 2
        grows = mean_field_rate(middle, input_scale) > 0
        low, high = (low, middle) if grows else (middle, high)
    return high


def line(lags, values):
    """Return slope and R^2 of a straight line through the later three quarters of the lags."""
    late = lags >= lags[-1] / 4
    slope, start = np.polyfit(lags[late], values[late], 1)
    left = np.var(values[late] - start - slope * lags[late])
    spread = np.var(values[late])
    return {"rate": float(slope), "r2": float(1 - left / spread) if spread > 0 else 1.0}


def describe(config, place, logs, log_norm):
    """Return what the tables and the summary say of one initialisation."""
    lags = np.array(config.all_lags)
    size = logs.shape[-1]
    values = {
        "leading": logs[..., 0],
        "condition": logs[..., 0] - logs[..., -1],
        "root_mean_square": (np.logaddexp.reduce(2 * logs, -1) - math.log(size)) / 2,
    }
    bounded = place["cell"] in ("linear", "elman")
    theory = dict.fromkeys(values, np.full(len(lags), np.nan))
    theory["leading"] = lags * (log_norm if bounded else np.nan)
    if place["cell"] == "elman":
        rate = mean_field_rate(place["gain"], config.input_scale)
        theory["root_mean_square"] = lags * rate
    if place["cell"] == "linear" and place["kernel"] == "orthogonal":
        theory |= {"root_mean_square": lags * math.log(place["gain"]), "condition": 0 * lags}
    rows, entry = {}, dict(place)
    for name, value in values.items():
        found = diagnostics.quartiles(value.reshape(len(lags), -1))
        rows[name] = {**place, "lag": lags, **found, "theory": theory[name]}
        entry[name] = line(lags, found["median"])
        each = [line(lags, np.median(value[:, s], -1))["rate"] for s in range(value.shape[1])]
        entry[name]["rate_spread_over_seeds"] = float(np.std(each))
        entry[name]["theory"] = float(theory[name][-1] / lags[-1])
    over = logs[..., 0] - theory["leading"][:, None, None]
    entry["largest_over_bound"] = float(over.max()) if bounded else None
    return rows, entry


def measure(config, run):
    tables: dict[str, list] = {"leading": [], "condition": [], "root_mean_square": []}
    spectrum, entries, biases = [], [], []
    lags = np.array(config.all_lags)
    for name in config.cells:
        places = [*itertools.product(config.kernels, config.gains)]
        for kernel, gain in progress(places, name):
            bias = FORGET_BIAS.get(name)
            place = {"cell": name, "kernel": kernel, "gain": gain}
            logs, log_norm = spectra(config, name, kernel, gain, bias)
            rows, entry = describe(config, place, logs, log_norm)
            entries.append(entry)
            for table in tables:
                tables[table].append(rows[table])
            for i, lag in enumerate(lags):
                index = np.arange(logs.shape[-1])
                spectrum.append({**place, "lag": lag, "index": index, "value": logs[i, 0, 0]})
        for bias in progress(config.forget_biases if name in FORGET_BIAS else (), f"{name} biases"):
            place = {"cell": name, "forget_bias": bias}
            logs, _ = spectra(config, name, "orthogonal", 1.0, bias)
            found = diagnostics.quartiles(logs[..., 0].reshape(len(lags), -1))
            alone = -lags * math.log1p(math.exp(-bias))
            biases.append({**place, "lag": lags, **found, "theory": alone})
            entries.append({**place, "kernel": "orthogonal", "gain": 1.0})
            entries[-1]["leading"] = line(lags, found["median"])
    run.write_table("spectrum", spectrum)
    for table, rows in tables.items():
        run.write_table(table, rows)
    if biases:
        run.write_table("forget_bias", biases)
    summary = {
        "mean_square_of_tanh_derivative_at_unit_variance": float(
            gaussian_mean(lambda x: np.cosh(x) ** -4.0, 1)
        ),
        "critical_gain_of_mean_field": critical_gain(config.input_scale),
        "entries": entries,
    }
    print(entries)
    return summary


def draw(run):
    pass


def run(config: Config) -> dict[str, Any]:
    """Run the experiment and return its summary."""
    return in_run("jacobian_spectrum", config, functools.partial(measure, config), draw)


if __name__ == "__main__":
    main(Config, run)
