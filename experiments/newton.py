"""How many iterations does Newton's method need to run a network over all time steps at once?

Claim: the largest Lyapunov exponent lambda_1 governs it. While lambda_1 < 0 they are few, and no
more for longer sequences; beyond, there are up to T (Gonzalez et al. 2025, "Predictability enables
parallelization of nonlinear state space models", arXiv:2508.16817; the method is that of Lim et al.
2024, arXiv:2309.12252). Networks are untrained, their recurrent kernels N(0, g^2/N), driven by a
sine; iterations are those of exact Newton, and with the diagonal of the Jacobians, in float64.

Verdict: `reproduced` if for every cell, wherever lambda_1 < -0.1, exact Newton converges in at
most 20 iterations at every length, and in at most 2 more at the longest than at the shortest; if
wherever lambda_1 > 0.02 it takes more than a tenth of T, or does not converge within
--max-iterations, at the longest; and if there are networks of both kinds. Else `not reproduced`;
`quick run only` if --features, the longest of --lengths, --max-iterations or --seeds is below its
default.

    python experiments/newton.py
    python experiments/newton.py --cells elman --lengths 100 10000 --gains 0.5 0.9
"""

import dataclasses
import functools

import rnnjax
from rnnjax import diagnostics, experiment, initializers
from rnnjax.command_line import ArgumentError, at_least, finite, positive, progress
from rnnjax.experiment import CellOptions, SeedOptions, Verdict
from rnnjax.networks import short_name

import jax
import jax.numpy as jnp
import numpy as np

JACOBIANS = "dense", "diagonal"


@dataclasses.dataclass(frozen=True)
class Config(CellOptions, SeedOptions):
    """Measure iterations of Newton's method over time against the largest Lyapunov exponent.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes under three minutes on two CPU cores.
    """

    gains: tuple[float, ...] = (0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0)
    """Gains g of the recurrent kernels."""
    features: int = 32
    lengths: tuple[int, ...] = (100, 300, 1000)
    """Lengths T of the sequences."""
    tolerance: float = 1e-10
    """Largest residual that counts as converged, in units of the states."""
    max_iterations: int = 300
    """Where an attempt ends."""
    period: float = 20.0
    """Steps to a period of the sine that drives the networks."""
    seeds: int = 2

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "max_iterations", "seeds")
        positive(self, "tolerance", "period")
        finite(self, "gains", above=0)
        if len(set(self.lengths)) < 2 or not all(n >= 2 for n in self.lengths):
            raise ArgumentError(
                f"--lengths must be two or more, each at least 2, got {self.lengths}"
            )
        for name in self.cells:
            if not isinstance(self.make_cell(name), rnnjax.Gated):
                raise ArgumentError(f"--cells must be Gated cells, whose gain varies, got {name}")


def newton(options, cell, params, xs):
    """Return the iterations, and whether the method converged."""
    report = rnnjax.unroll_newton(cell, params, xs, **options)[-1]
    return report.iterations, report.converged


def first_exponent(cell, params, xs):
    """Return lambda_1 of the driven network, after a tenth of the sequence."""
    options = {"num": 1, "transient": len(xs) // 10}
    return diagnostics.lyapunov_spectrum(cell, params, xs, **options).exponents[..., 0]


@jax.enable_x64(True)
def attempts(config, name, gain):
    """Return lambda_1 `[S]`, and iterations and convergence `[2, L, S]` by Jacobian and length."""
    init = initializers.Gaussian(gain)
    cell = config.make_cell(name, recurrent_kernel_init=init, param_dtype=jnp.float64)
    bare, time = cell.without_initialisers(), jnp.arange(max(config.lengths))
    xs = jnp.sin(2 * jnp.pi * time / config.period)[:, None]
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    params = jax.vmap(lambda key: cell.init(key, 1))(keys)

    def each(measure):  # for every network
        return jax.jit(jax.vmap(functools.partial(measure, bare), (0, None)))

    found = []
    for jacobian in JACOBIANS:
        options = {"tolerance": config.tolerance, "max_iterations": config.max_iterations}
        run = each(functools.partial(newton, options | {"jacobian": jacobian}))
        found.append([run(params, xs[:length]) for length in config.lengths])
    iterations, converged = np.moveaxis(np.array(found), 2, 0)
    exponents = each(first_exponent)(params, xs)
    return {"exponents": exponents, "iterations": iterations, "converged": converged > 0}


def measure(config, run):
    rows = []
    pairs = [(name, gain) for name in config.cells for gain in config.gains]
    for name, gain in progress(pairs, "networks"):
        known = f"{short_name(name)} gain {gain}"
        found = run.cached(known, attempts, config, name, gain)
        for j, jacobian in enumerate(JACOBIANS):
            for n, length in enumerate(config.lengths):
                for i, seed in enumerate(config.members):
                    exponent = float(found["exponents"][i])
                    forecast = diagnostics.newton_forecast(exponent, length).iterations
                    row = {"cell": short_name(name), "jacobian": jacobian, "length": length}
                    row |= {"gain": gain, "seed": seed, "exponent": exponent}
                    row |= {"iterations": int(found["iterations"][j, n, i])}
                    row |= {"converged": bool(found["converged"][j, n, i])}
                    rows.append(row | {"forecast": int(forecast)})
        run.write_table("attempts", rows)
    run.write_table("iterations", curves(rows))
    return {"attempts": rows}


def curves(rows):
    """Return the medians over seeds by exponent; what did not converge counts as where it ended."""
    table = []
    for (cell, jacobian, length), series in grouped(rows, "cell", "jacobian", "length").items():
        points = []
        for found in grouped(series, "gain").values():
            exponent = float(np.median([row["exponent"] for row in found]))
            taken = np.array([row["iterations"] for row in found])
            points.append({"exponent": exponent, **diagnostics.quartiles(taken)})
        columns = {"cell": cell, "series": f"{jacobian}, T = {length}"}
        table += [columns | point for point in sorted(points, key=lambda p: p["exponent"])]
    return table


def grouped(rows, *names):
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def verdict(config, summary):
    rows = [row for row in summary["attempts"] if row["jacobian"] == "dense"]
    first, last = min(config.lengths), max(config.lengths)
    conditions = {}
    for (cell,), own in grouped(rows, "cell").items():
        calm = [row for row in own if row["exponent"] < -0.1]
        few = all(row["converged"] and row["iterations"] <= 20 for row in calm)
        conditions[f"{cell}: at most 20 iterations where lambda_1 < -0.1"] = few
        by_length = (
            {r["length"]: r["iterations"] for r in g}
            for g in grouped(calm, "gain", "seed").values()
        )
        flat = all(taken[last] <= taken[first] + 2 for taken in by_length)
        conditions[f"{cell}: there no more for longer sequences"] = flat
    wild = [row for row in rows if row["exponent"] > 0.02 and row["length"] == last]
    many = all(not row["converged"] or row["iterations"] > last / 10 for row in wild)
    conditions["more than a tenth of T where lambda_1 > 0.02"] = many
    calm = any(row["exponent"] < -0.1 for row in rows)
    conditions["there are networks of both kinds"] = bool(wild) and calm
    limits = {"lengths": (last, max(Config.lengths))}
    names = "features", "max_iterations", "seeds"
    return Verdict.judge(conditions).unless_quick(config, *names, **limits)


def show(summary):
    table = []
    for (cell, gain, seed), found in grouped(summary["attempts"], "cell", "gain", "seed").items():
        taken = [f"{'' if row['converged'] else '>'}{row['iterations']}" for row in found]
        table.append([cell, gain, seed, found[0]["exponent"], *taken])
    columns = dict.fromkeys(f"{row['jacobian']} {row['length']}" for row in summary["attempts"])
    experiment.print_table(["cell", "gain", "seed", "lambda_1", *columns], table)


def draw(run):
    options = {"panel": "cell", "log_y": True, "ylabel": "iterations"}
    options |= {"xlabel": "largest Lyapunov exponent, nats per step", "places": {0.0: ""}}
    experiment.draw_curves(run, "iterations", "exponent", "series", **options)


run = experiment.Experiment("newton", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
