"""Does the Lyapunov spectrum of a chaotic rate network depend on its size? Only through i/N.

Claim: chaos in random rate networks is extensive, with a Lyapunov spectrum that does not change
with the size N, and an attractor of far fewer than N dimensions (Engelken, Wolf, Abbott 2023,
"Lyapunov spectra of chaotic recurrent neural networks", Physical Review Research 5, 043044;
arXiv:2006.02427, abstract). Numbers: what the authors' code returns for its own example
(github.com/RainerEngelken/RNN-LyapunovSpectra, in Python, seeds 1).

As in the code: x' = (1 - dt) x + dt J tanh(x), dt = .1 tau; J ~ N(0, g^2/N), g = 4, without
self-connections; x_0 ~ (g - 1) N(0, 1); 100 tau to reach the attractor, 100 tau in which Q turns,
1,000 tau that count, a QR factorisation every tau; and the first exponent by finite differences, of
a trajectory that leaves along Q's first vector and every tau is brought back to a distance of 1e-6.
NumPy's RandomState draws the networks, so that seed 1 at N = 100 is that of the example. Different:
larger networks, for times like 1/N; more seeds; the nearby trajectory leaves when Q begins to turn,
not 100 tau before. Exponents are in 1/tau.

Verdict: `reproduced` if, for the network of the example, lambda_1, the entropy rate, the dimension
and the mean exponent are those of the authors' code within three standard errors of the difference
of two such runs (ALLOWED); in every network lambda_1 by QR and by finite differences differ by at
most .002; and, over seeds, the curves of the two largest sizes against i/N are .05 apart or less in
the mean, every added unit adds as many dimensions between these sizes as between the two smallest,
within a third (an offset that does not grow with N is allowed), and the dimension stays below N/5.
Else `not reproduced`; `quick run only` if --seeds, --time, --transient or the largest of --sizes is
below its default.

    python experiments/papers/ewa23_spectrum.py
    python experiments/papers/ewa23_spectrum.py --sizes 100 200 400 800 --seeds 8
"""

import dataclasses
from typing import Any

import rnnjax
from rnnjax import diagnostics, experiment, training
from rnnjax.cells import Constrained, Rate
from rnnjax.cells.constraints import NoSelfConnections
from rnnjax.cells.rate import RateCarry
from rnnjax.command_line import ArgumentError, at_least, progress, rising
from rnnjax.diagnostics.growth import first_frame
from rnnjax.diagnostics.lyapunov import block_means
from rnnjax.experiment import SeedOptions, Verdict

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

GAIN, DT, EVERY = 4.0, 0.1, 10  # EVERY steps are one tau
SETTLE, NEARBY = 100, 1e-6  # tau; distance of the nearby trajectory
EXAMPLE = 100, 1  # N and seed
PUBLISHED = {"lambda_1": 0.1634, "entropy_rate": 0.00271, "dimension": 0.0635, "mean": -1.0523}
ALLOWED = {"lambda_1": 0.038, "entropy_rate": 0.001, "dimension": 0.008, "mean": 0.0004}
CURVE = np.array([0.163, 0.001, -0.369, -0.729, -0.997, -1.086, -1.328, -1.684, -2.086, -2.535])
PLACES = np.array([0.5, 3.5, 9.5, 19.5, 39.5, 59.5, 79.5, 89.5, 95.5, 99.5]) / 100  # in the example
SAME, CLOSE, ALIKE, FEW = 0.002, 0.05, 1 / 3, 1 / 5
CODE, METHODS = "authors' code, N = 100", ("QR", "finite differences")
WORDS = {
    "lambda_1": "the first exponent",
    "entropy_rate": "the entropy rate per unit",
    "dimension": "the dimension per unit",
    "mean": "the mean exponent",
}


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Measure all Lyapunov exponents of chaotic rate networks of several sizes.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes about a minute on two CPU cores.
    """

    sizes: tuple[int, ...] = (100, 200, 300)
    """Sizes N of the networks, in rising order."""
    time: int = 1000
    """Time in tau that exponents of the smallest networks are averaged over."""
    transient: int = 100
    """Time in tau before that, in which Q turns."""
    seeds: int = 4
    seed: int = 1

    def __post_init__(self):
        super().__post_init__()
        rising(self, "sizes")
        if len(self.sizes) < 3 or self.sizes[0] < 2:
            raise ArgumentError(f"--sizes must be three or more, each at least 2, got {self.sizes}")
        at_least(-(-2 * self.sizes[-1] // self.sizes[0]), self, "time")
        at_least(0, self, "transient")


def draw_network(size, seed):
    """Return J and x_0 as the authors' code draws them from its seeds of both."""
    weights = GAIN * np.random.RandomState(seed).randn(size, size) / np.sqrt(size)
    return weights, (GAIN - 1) * np.random.RandomState(seed).randn(size)


def nearby_growth(cell, params, start, first, xs):
    """Return the rate, in 1/tau, at which a nearby trajectory moves away, for each tau."""
    _, _, carries = rnnjax.unroll(cell, params, xs, initial_carry=start, return_carries=True)
    visited = jnp.concatenate([start.x[None], carries.x[EVERY - 1 :: EVERY]])

    def one_tau(direction, ends):
        moved = RateCarry(ends[0] + NEARBY * direction)
        moved, _ = rnnjax.unroll(cell, params, xs[:EVERY], initial_carry=moved)
        gap = (moved.x - ends[1]) / NEARBY
        return gap / jnp.linalg.norm(gap), jnp.log(jnp.linalg.norm(gap))

    return lax.scan(one_tau, first, (visited[:-1], visited[1:]))[1] / (EVERY * DT)


@jax.enable_x64(True)
def measure_size(config, size):
    """Return exponents by QR, the first by finite differences, and the first by block of both."""
    rate = Rate(size, dt=DT, tau=1.0, param_dtype=jnp.float64)
    cell, before = Constrained(rate, recurrent=(NoSelfConnections(),)), config.transient
    total = before + config.time * config.sizes[0] // size

    def one(weights, start):
        params = cell.init(jax.random.key(0), 1)._replace(recurrent_kernel=weights.T)
        rest, xs = jnp.zeros((SETTLE * EVERY, 1)), jnp.zeros((total * EVERY, 1))
        carry, _ = rnnjax.unroll(cell, params, rest, initial_carry=RateCarry(start))
        options = {"interval": EVERY, "transient": before * EVERY, "initial_carry": carry}
        found = diagnostics.lyapunov_spectrum(cell, params, xs, **options)
        (frame,) = first_frame(size, [carry.x], 0)  # that of the exponents by QR
        growth = nearby_growth(cell, params, carry, frame[0], xs)[before:]
        local = jnp.stack([found.block_means[:, 0] / DT, block_means(growth)])
        return {"exponents": found.exponents / DT, "differences": growth.mean(), "local": local}

    networks = zip(*(draw_network(size, seed) for seed in config.members), strict=True)
    return training.over_population(one)(*map(np.stack, networks))


def quantities(exponents):
    """Return what is claimed of the spectra `[S, N]`, for each seed."""
    per_unit = diagnostics.entropy_rate, diagnostics.kaplan_yorke_dimension
    found = [np.asarray(of(exponents).value) / exponents.shape[1] for of in per_unit]
    return dict(zip(WORDS, [exponents[:, 0], *found, exponents.mean(1)], strict=True))


def measure(config, run):
    rows, local, sizes, example = [], [], {}, None
    for size in progress(config.sizes, "networks"):
        found = run.cached(f"size {size}", measure_size, config, size)
        place, band = (np.arange(size) + 0.5) / size, diagnostics.quartiles(found["exponents"].T)
        rows.append({"series": f"N = {size}", "place": place, **band})
        values = quantities(found["exponents"]) | {"differences": found["differences"]}
        sizes[str(size)] = {name: of.tolist() for name, of in values.items()}
        if size == EXAMPLE[0] and EXAMPLE[1] in config.members:
            example = {k: float(values[k][config.members.index(EXAMPLE[1])]) for k in WORDS}
        for method, blocks in zip(METHODS, found["local"][0], strict=True):  # of the first seed
            where = {"size": f"N = {size}, first seed", "method": method}
            until = np.linspace(0, config.time * config.sizes[0] // size, len(blocks) + 1)[1:]
            local.append({**where, "time": until, "median": blocks})
    *_, a, b = rows
    distance = float(np.abs(np.interp(a["place"], b["place"], b["median"]) - a["median"]).mean())
    rows.append({"series": CODE, "place": PLACES, "median": CURVE, "q25": CURVE, "q75": CURVE})
    run.write_tables({"spectra": rows, "local": local})
    return {"sizes": sizes, "example": example, "distance": distance}


def verdict(config, summary):
    example, at, conditions = summary["example"], summary["sizes"], {}
    for name in PUBLISHED if example else ():
        off = abs(example[name] - PUBLISHED[name])
        conditions[f"{WORDS[name]} is that of the authors' code"] = off <= ALLOWED[name]
    for size, of in at.items():
        off = np.abs(np.subtract(of["lambda_1"], of["differences"])).max()
        conditions[f"N = {size}: finite differences give the first exponent"] = off <= SAME
    conditions["the curves against i/N do not change with N"] = summary["distance"] <= CLOSE
    dimensions = [int(size) * np.mean(of["dimension"]) for size, of in at.items()]
    added = np.diff(dimensions) / np.diff(config.sizes)
    conditions["dimensions grow like N"] = abs(added[-1] - added[0]) <= ALIKE * added[-1]
    conditions["dimensions are few"] = dimensions[-1] <= FEW * config.sizes[-1]
    found = Verdict.judge(conditions)
    if not example:
        reason = "the authors' example, N = 100 with seed 1, was not measured"
        found = Verdict.inconclusive(reason, conditions)
    few = {"sizes": (config.sizes[-1], Config.sizes[-1])}
    return found.unless_quick(config, "seeds", "time", "transient", **few)


def show(summary):
    rows = [[f"N = {n}", *(np.mean(of[k]) for k in WORDS)] for n, of in summary["sizes"].items()]
    if summary["example"]:
        rows.append(["N = 100, seed 1", *summary["example"].values()])
    experiment.print_table(["", *WORDS], [*rows, [CODE, *PUBLISHED.values()]])


def draw(run):
    words: dict[str, Any] = {"ylabel": r"Lyapunov exponent, 1/$\tau$", "level": 0}
    words |= {"xlabel": "i / N", "reference": CODE}
    experiment.draw_curves(run, "spectra", "place", "series", **words)
    words = {"xlabel": r"time, $\tau$", "ylabel": r"first exponent of each block, 1/$\tau$"}
    experiment.draw_curves(run, "local", "time", "method", panel="size", **words)


run = experiment.Experiment("ewa23_spectrum", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
