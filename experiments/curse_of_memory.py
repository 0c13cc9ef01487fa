"""The curse of memory: a state grows sensitive to its parameters though no gradient explodes.

Claim (Zucchet & Orvieto 2024, "Recurrent neural networks: vanishing and exploding gradients are not
the end of the story", NeurIPS, figure 1): in h_{t+1} = lambda h_t + x_{t+1} the gradient through
time, lambda^k, never exceeds 1 and lasts as long as the memory, 1/(1 - lambda) steps. Yet
E[(dh/dlambda)^2] grows without bound as lambda -> 1, faster than E[h^2], and more so the more x is
correlated. The remedy: inputs gamma(lambda) x with gamma^2 = 1 - lambda^2, so that the state is
gamma h, and the parameter nu in lambda = exp(-exp(nu)).

x is an AR(1) process of unit variance, E[x_t x_{t+k}] = rho^|k|. Moments of h and dh/dtheta, theta
a recurrence's parameter, are simulated and compared with closed forms: see `linear_recurrences` in
`rnnjax.diagnostics`. h and dh/dtheta start at zero, x in its stationary distribution; the first
15/(1 - lambda) steps of the largest lambda are left out, which cuts off less than 1e-5.

Verdict: `reproduced` if (1) no simulated moment is further from its closed form than Student's t
allows 1 % of all runs (Bonferroni, seeds - 1 degrees of freedom), (2) what it allows is nowhere
above half the closed form, (3) the simulated E[(dh/dlambda)^2] / E[h^2] rises at every lambda, for
every rho, and (4) the measured gradient never exceeds 1 and is at least a fifth after
1/(1 - lambda) steps. `inconclusive` if only (2) fails; else `not reproduced`.

    python experiments/curse_of_memory.py
    python experiments/curse_of_memory.py --rhos 0 0.5 --closest 1e-2 --seeds 32
"""

import dataclasses
import functools
import math

import rnnjax
from rnnjax import diagnostics, experiment, training
from rnnjax.command_line import ArgumentError, at_least, distinct
from rnnjax.diagnostics import linear_recurrences as linear
from rnnjax.experiment import SeedOptions, Verdict, closed_forms

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 500  # steps that are held in memory at once


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Measure how a scalar linear recurrence depends on its parameter, as its memory grows.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV) and summary.json.
    The default run takes under a minute on two CPU cores.
    """

    rhos: tuple[float, ...] = (0.0, 0.9, 0.99, 0.999, 1.0)
    """Correlations of successive inputs."""
    lambdas: int = 10
    """Values of lambda, from 1/2 on, evenly spaced in log(1 - lambda)."""
    closest: float = 1e-3
    """1 - lambda of the last of them; float32 resolves lambda down to 1e-4."""
    steps: int = 20000
    """Time steps averaged over, rounded up to a multiple of 500."""
    chains: int = 32
    """Independent input sequences for each seed."""
    seeds: int = 16
    """Repetitions, which give the standard errors."""

    def __post_init__(self):
        super().__post_init__()
        at_least(2, self, "lambdas", "seeds")
        at_least(1, self, "steps", "chains")
        distinct(self, "rhos")
        if not all(0 <= rho <= 1 for rho in self.rhos):
            raise ArgumentError(f"--rhos must lie between 0 and 1, got {self.rhos}")
        if not 1e-4 <= self.closest < 0.5:
            raise ArgumentError(
                f"--closest must be at least 1e-4 and below 0.5, got {self.closest}"
            )


def simulate(config, rhos, thetas, skip, key):
    """Return the mean of each moment `[R, H]` over time, after `skip` chunks, and over chains."""
    source = linear.diagonal("normalised", len(rhos))  # noise in, AR(1) processes out
    cells = {name: linear.diagonal(name, len(theta)) for name, theta in thetas.items()}

    def advance(carry, key):
        x, states = carry
        noise = jax.random.normal(key, (CHUNK, config.chains, 1))
        x, xs = rnnjax.unroll(source, rhos, noise, x)
        inputs, after, means = xs[..., None], {}, {}
        for name, cell in cells.items():
            after[name], (h, dh) = linear.sensitivities(cell, thetas[name], inputs, states[name])
            means[f"{name} state"] = jnp.mean(h**2, (0, 1))
            means[f"{name} sensitivity"] = jnp.mean(dh**2, (0, 1))
        return (x, after), means

    x_key, skip_key, keep_key = jax.random.split(key, 3)
    shape = config.chains, len(rhos)
    zero = {name: (cell.initial_carry(shape),) * 2 for name, cell in cells.items()}
    start = linear.Carry(jax.random.normal(x_key, shape)), zero
    start, _ = jax.lax.scan(advance, start, jax.random.split(skip_key, skip))
    keys = jax.random.split(keep_key, math.ceil(config.steps / CHUNK))
    return jax.tree.map(lambda a: a.mean(0), jax.lax.scan(advance, start, keys)[1])


def gradients(decays, memories=3):
    """Return |dh_T / dh_{T-k}| by lag `[K, H]`, up to `memories` times the longest memory."""
    count, lags = len(decays), math.ceil(memories / (1 - max(decays)))
    cell, each = linear.diagonal("plain", count), linear.Carry(jnp.eye(count))  # unit by unit
    xs = jnp.ones((lags, count, 1))
    profile = diagnostics.log_gradient_profile(cell, jnp.asarray(decays), xs, each)
    return np.exp(np.asarray(profile)[::-1])


def measure(config, run):
    decays = 1 - np.geomspace(0.5, config.closest, config.lambdas)
    decays = decays.astype(np.float32).astype(float)  # closed forms are about what is simulated
    thetas = {name: jnp.float32(r.theta(decays)) for name, r in linear.RECURRENCES.items()}
    rhos, skip = jnp.float32(config.rhos), math.ceil(15 / (1 - decays[-1]) / CHUNK)
    simulation = functools.partial(simulate, config, rhos, thetas, skip)
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    means = run.cached("means", training.over_population(simulation), keys)  # each [S, R, H]
    rows, by_rho = [], {}
    for r, rho in enumerate(config.rhos):
        place, found = {"rho": rho, "lambda": decays, "memory": 1 / (1 - decays)}, []
        for moment, theory in linear.moments(decays, float(rhos[r])).items():
            columns = closed_forms.beside_theory(means[moment][:, r], theory)
            found.append({"moment": moment, **place, **columns})
        rows += found
        state, sensitivity = (row["mean"] for row in found[:2])  # of the plain recurrence
        by_rho[str(rho)] = {
            **closed_forms.largest_deviations(found),
            "relative_sensitivity_rises": bool(np.all(np.diff(sensitivity / state) > 0)),
            **closed_forms.last_values(found, "moment"),
        }
    run.write_table("moments", rows)

    gradient, memory = gradients(decays), np.rint(1 / (1 - decays)).astype(int)
    shown = []  # gradients of some lambdas, each up to three times its memory
    for column in np.unique(np.linspace(0, len(decays) - 1, 4).astype(int)):
        lag = np.unique(np.geomspace(1, 3 / (1 - decays[column]), 100).astype(int))
        columns = {"median": gradient[lag - 1, column], "theory": decays[column] ** lag}
        shown.append({"lambda": decays[column], "lag": lag, **columns})
    run.write_table("gradients", shown)
    return {
        "rhos": by_rho,
        "lambda": float(decays[-1]),
        "allowed_standard_errors": closed_forms.allowed(len(rows) * len(decays), config.seeds),
        "largest_gradient": float(gradient.max()),
        "least_gradient_after_memory": float(gradient[memory - 1, range(len(decays))].min()),
    }


def verdict(config, summary):
    entries, allowed = summary["rhos"].values(), summary["allowed_standard_errors"]
    resolved = all(allowed * e["largest_standard_error"] <= 0.5 for e in entries)
    agree = all(e["standard_errors"] <= allowed for e in entries)
    rises = all(e["relative_sensitivity_rises"] for e in entries)
    conditions = {
        "the simulated moments agree with their closed forms": agree,
        "E[(dh/dlambda)^2] / E[h^2] rises with lambda": rises,
        "the gradient never exceeds 1": summary["largest_gradient"] <= 1,
        "the gradient lasts as long as the memory": summary["least_gradient_after_memory"] >= 0.2,
    }
    if all(conditions.values()) and not resolved:
        return Verdict.inconclusive("the simulation is too short to tell", conditions)
    return Verdict.judge(conditions | {"the simulation resolves half a closed form": resolved})


def draw(run):
    table = run.read_table("moments")
    axes: dict = {"x": "memory", "series": "rho", "panel": "moment", "names": linear.MOMENTS}
    axes |= {"label_format": "ρ = {:g}", "xlabel": "memory 1 / (1 - λ), in steps", "log_x": True}
    plain = ["plain state", "plain sensitivity"]
    remedy = ["normalised state", "normalised sensitivity", "remedied sensitivity"]
    for name, shown in (("curse", plain), ("remedy", remedy)):
        axes["table"] = experiment.select(table, moment=shown)
        experiment.draw_curves(run, name, ylabel="second moment", log_y=True, **axes)
    axes["table"] = closed_forms.ratios(experiment.select(table, moment=[*plain, remedy[-1]]))
    label = "simulation / closed form, ± 2 standard errors"
    experiment.draw_curves(run, "agreement", ylabel=label, **axes)
    label = r"gradient $|\partial h_T / \partial h_{T-k}|$"
    experiment.draw_curves(
        run, "gradients", "lag", "lambda", label_format="λ = {:.4g}", ylabel=label, log_x=True
    )


def show(summary):
    columns = "plain state", "plain sensitivity", "normalised sensitivity", "remedied sensitivity"
    print(f"Second moments at lambda = {summary['lambda']:.6g}: simulation | closed form")
    rows = [
        [rho, *closed_forms.texts(entry, columns), f"{entry['standard_errors']:.2f}"]
        for rho, entry in summary["rhos"].items()
    ]
    experiment.print_table(["rho", *columns, "standard errors off"], rows)
    print(f"Largest gradient: {summary['largest_gradient']:.4g}")
    print(f"Least after 1/(1 - lambda) steps: {summary['least_gradient_after_memory']:.4g}")
    print(f"Standard errors allowed: {summary['allowed_standard_errors']:.2f}")


run = experiment.Experiment("curse_of_memory", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
