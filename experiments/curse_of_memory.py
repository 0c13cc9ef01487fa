"""The curse of memory: a state grows sensitive to its parameters though no gradient explodes.

Claim (Zucchet & Orvieto 2024, "Recurrent neural networks: vanishing and exploding gradients are not
the end of the story", NeurIPS, figure 1): in h_{t+1} = lambda h_t + x_{t+1} the gradient through
time, lambda^k, never exceeds 1 and lasts as long as the memory, 1/(1 - lambda) steps. Yet
E[(dh/dlambda)^2] grows without bound as lambda -> 1, faster than E[h^2], and more so the more x is
correlated. The remedy: inputs gamma(lambda) x with gamma^2 = 1 - lambda^2, so that the state is
gamma h, and the parameter nu in lambda = exp(-exp(nu)).

x is an AR(1) process of unit variance, E[x_t x_{t+k}] = rho^|k|. For two recurrences a and b on it
    F(a, b) = E[h_a h_b] = sum_{k,l >= 0} a^k b^l rho^|k-l|
            = (1 + a rho / (1 - a rho) + b rho / (1 - b rho)) / (1 - a b),
and at a = b = lambda: E[h^2] = F and E[(dh/dlambda)^2] = d^2F/da db. For any stationary x,
d(gamma h)/dlambda is h/gamma through the filter (z - lambda) / (1 - lambda z), z the delay of one
step, which changes no power: its second moment is E[h^2] / gamma^2. That of d(gamma h)/dnu is thus
(s / (2 sinh s))^2 E[(gamma h)^2], s = exp(nu): never above a quarter of E[(gamma h)^2], which is
below (1 + rho) / (1 - rho).

The simulation starts h and dh/dlambda at zero and x in its stationary distribution, and leaves out
the first 15/(1 - lambda) steps of the largest lambda: what that cuts off is less than 1e-5 of the
size of dh/dlambda. All rhos and lambdas see the same noise, so their deviations go together.

Verdict: `reproduced` if (1) no simulated moment of any network is further from its closed form than
Student's t allows 1 % of all runs (Bonferroni, seeds - 1 degrees of freedom), (2) what it allows is
nowhere above half the closed form, (3) the simulated E[(dh/dlambda)^2] / E[h^2] rises at every
lambda, for every rho, and (4) the measured gradient never exceeds 1 and is at least a fifth after
1/(1 - lambda) steps. `inconclusive` if only (2) fails; else `not reproduced`.

The file is longer than 200 lines because it has three recurrences, their closed forms and a
simulation that does not fit in memory at once.

    python experiments/curse_of_memory.py
    python experiments/curse_of_memory.py --rhos 0 0.5 --closest 1e-2 --seeds 32
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import rnnjax
from rnnjax import diagnostics, experiment, training
from rnnjax.command_line import ArgumentError, at_least
from rnnjax.experiment import SeedOptions, Verdict

CHUNK = 500  # steps that are held in memory at once
NAMES = {
    "plain state": "E[h²]",
    "plain sensitivity": "E[(dh/dλ)²]",
    "normalised state": "E[(γh)²], γ² = 1 - λ²",
    "normalised sensitivity": "E[(d(γh)/dλ)²]",
    "remedied sensitivity": "E[(d(γh)/dν)²], λ = exp(-exp ν)",
}


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
    """1 - lambda of the last of them."""
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
        unique = len(set(self.rhos)) == len(self.rhos)
        if not self.rhos or not unique or not all(0 <= rho <= 1 for rho in self.rhos):
            raise ArgumentError(f"--rhos must lie between 0 and 1, each once, got {self.rhos}")
        if not 1e-4 <= self.closest < 0.5:
            raise ArgumentError(
                "--closest must be at least 1e-4, where float32 resolves lambda, and below 0.5; "
                f"got {self.closest}"
            )


class Recurrence(NamedTuple):
    """A scalar recurrence h' = decay(theta) h + gain(theta) x, and theta of a given decay."""

    decay: Callable[[Any], Any]
    gain: Callable[[Any], Any]
    theta: Callable[[Any], Any]


def same(decay):
    return decay


NETWORKS = {
    "plain": Recurrence(same, jnp.ones_like, same),
    "normalised": Recurrence(same, lambda decay: jnp.sqrt(1 - decay**2), same),
    "remedied": Recurrence(
        lambda nu: jnp.exp(-jnp.exp(nu)),
        lambda nu: jnp.sqrt(-jnp.expm1(-2 * jnp.exp(nu))),
        lambda decay: jnp.log(-jnp.log(decay)),
    ),
}


class DiagonalCarry(NamedTuple):
    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True)
class Diagonal(rnnjax.Cell):
    """H scalar recurrences side by side on one input; the parameters are their theta `[H]`."""

    recurrence: Recurrence
    features: int

    def init(self, key: Any, input_size: int) -> Any:
        del input_size  # each unit takes in the sum
        return self.recurrence.theta(jax.random.uniform(key, (self.features,), minval=0.5))

    def initial_carry(self, batch_shape: Sequence[int]) -> DiagonalCarry:
        return DiagonalCarry(jnp.zeros((*batch_shape, self.features)))

    def project(self, ready: Any, x: Any) -> Any:
        return self.recurrence.gain(ready) * x.sum(-1, keepdims=True)

    def step(self, ready: Any, carry: DiagonalCarry, u: Any) -> DiagonalCarry:
        return DiagonalCarry(self.recurrence.decay(ready) * carry.h + u)

    def output(self, carry: DiagonalCarry) -> Any:
        return carry.h


def closed_form(name, decay, rho):
    """Return E[h^2] and E[(dh/dtheta)^2] of a network, in the stationary limit."""
    p, q = 1 - decay**2, 1 - decay * rho
    state = (1 + decay * rho) / (p * q)
    if name == "plain":
        return state, (1 + decay**2) * state / p**2 + 2 * decay * rho / (p * q) ** 2
    slope = decay * np.log(decay) if name == "remedied" else 1  # dlambda/dtheta
    return p * state, slope**2 * state / p


def simulate(key, rhos, thetas, *, chains, skip, keep):
    """Return the means of h^2 and (dh/dtheta)^2 over `keep` chunks after the first `skip`.

    Args:
        rhos: `[R]`.
        thetas: `[H]` for each network.

    Returns:
        Both means, `[2, R, H]`, for each network.
    """
    source = Diagonal(NETWORKS["normalised"], len(rhos))  # which makes an AR(1) process of noise
    cells = {name: Diagonal(NETWORKS[name], len(theta)) for name, theta in thetas.items()}

    def advance(carry, key):
        x, states = carry
        noise = jax.random.normal(key, (CHUNK, chains, 1))
        x, xs = rnnjax.unroll(source, rhos, noise, x)  # xs [CHUNK, chains, R]
        means = {}
        for name, cell in cells.items():
            run = functools.partial(rnnjax.unroll, cell, xs=xs[..., None])
            (h, hs), (dh, dhs) = jax.jvp(
                lambda theta, h, run=run: run(theta, initial_carry=h),
                (thetas[name], states[name][0]),
                (jnp.ones_like(thetas[name]), states[name][1]),
            )
            states = states | {name: (h, dh)}
            means[name] = jnp.stack([jnp.mean(a**2, (0, 1)) for a in (hs, dhs)])
        return (x, states), means

    first, *rest = jax.random.split(key, 1 + 2)
    x = DiagonalCarry(jax.random.normal(first, (chains, len(rhos))))
    zero = {name: cell.initial_carry((chains, len(rhos))) for name, cell in cells.items()}
    start = x, {name: (carry, carry) for name, carry in zero.items()}
    start, _ = lax.scan(advance, start, jax.random.split(rest[0], skip))
    _, means = lax.scan(advance, start, jax.random.split(rest[1], keep))
    return jax.tree.map(lambda a: a.mean(0), means)


def gradients(decays, memories=3):
    """Return |dh_T / dh_{T-k}| by lag `[K, H]`, up to `memories` times the longest memory."""
    count = len(decays)
    lags = math.ceil(memories / (1 - max(decays)))
    cell, each = Diagonal(NETWORKS["plain"], count), DiagonalCarry(jnp.eye(count))  # unit by unit
    profile = diagnostics.log_gradient_profile(
        cell, jnp.asarray(decays), jnp.ones((lags, count, 1)), each
    )
    return np.exp(np.asarray(diagnostics.by_lag(profile, jnp.full(count, lags), lags)))


def measure(config, run):
    decays = 1 - np.geomspace(0.5, config.closest, config.lambdas)
    decays = decays.astype(np.float32).astype(float)  # closed forms are about what is simulated
    rhos = np.float32(config.rhos).astype(float)
    simulation = functools.partial(
        simulate,
        rhos=jnp.float32(rhos),
        thetas={name: jnp.float32(net.theta(decays)) for name, net in NETWORKS.items()},
        chains=config.chains,
        skip=math.ceil(15 / (1 - decays[-1]) / CHUNK),
        keep=math.ceil(config.steps / CHUNK),
    )
    keys = [jax.random.key(seed) for seed in config.members]
    simulated = training.over_population(simulation)
    means = run.cached("means", simulated, jnp.stack(keys))  # [S, 2, R, H]

    rows, by_rho = [], {}
    for r, rho in enumerate(config.rhos):
        place = {"rho": rho, "lambda": decays, "memory": 1 / (1 - decays)}
        found = [
            {"moment": f"{name} {quantity}", **place, **compare(values[:, r], theory)}
            for name in NETWORKS
            for quantity, values, theory in zip(
                ("state", "sensitivity"),
                (means[name][:, 0], means[name][:, 1]),
                closed_form(name, decays, rhos[r]),
                strict=True,
            )
        ]
        rows += found
        by_rho[str(rho)] = summarise(found)
    run.write_table("moments", rows)

    gradient = gradients(decays)
    run.write_table("gradients", gradient_rows(decays, gradient))
    after_memory = gradient[np.rint(1 / (1 - decays)).astype(int) - 1, np.arange(len(decays))]
    return {
        "rhos": by_rho,
        "lambda": float(decays[-1]),
        "allowed_standard_errors": allowed_errors(len(rows) * len(decays), config.seeds),
        "largest_gradient": float(gradient.max()),
        "least_gradient_after_memory": float(after_memory.min()),
    }


def compare(values, theory):
    """Return columns of a table `[H]` about simulated `values [S, H]` and their closed form."""
    values = np.asarray(values, float)
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    columns = {"theory": theory, "mean": values.mean(0), "standard_error": error}
    return diagnostics.quartiles(values.T) | columns


def summarise(rows):
    """Return the largest deviations from closed form at one rho, and the last lambda's moments."""

    def largest(numerators, denominators):
        return float(np.max(np.divide(numerators, denominators)))

    mean, theory, error = (
        {row["moment"]: row[name] for row in rows} for name in ("mean", "theory", "standard_error")
    )
    theories, errors = [*theory.values()], [*error.values()]
    deviations = [np.abs(row["mean"] - row["theory"]) for row in rows]
    relative = mean["plain sensitivity"] / mean["plain state"]
    return {
        "relative_error": largest(deviations, theories),
        "standard_errors": largest(deviations, errors),
        "largest_standard_error": largest(errors, theories),
        "relative_sensitivity_rises": bool(np.all(np.diff(relative) > 0)),
        "simulated": {moment: float(values[-1]) for moment, values in mean.items()},
        "closed_form": {moment: float(values[-1]) for moment, values in theory.items()},
    }


def allowed_errors(comparisons, seeds):
    """Return how many standard errors the largest of many deviations exceeds in 1 % of all runs."""
    from scipy import stats

    return float(stats.t.isf(0.01 / 2 / comparisons, seeds - 1))


def verdict(config, summary):
    entries, allowed = summary["rhos"].values(), summary["allowed_standard_errors"]
    resolved = all(allowed * e["largest_standard_error"] <= 0.5 for e in entries)
    conditions = {
        "the simulated moments agree with their closed forms": all(
            e["standard_errors"] <= allowed for e in entries
        ),
        "E[(dh/dlambda)^2] / E[h^2] rises with lambda": all(
            e["relative_sensitivity_rises"] for e in entries
        ),
        "the gradient never exceeds 1": summary["largest_gradient"] <= 1,
        "the gradient lasts as long as the memory": summary["least_gradient_after_memory"] >= 0.2,
    }
    if all(conditions.values()) and not resolved:
        return Verdict.inconclusive("the simulation is too short to tell", conditions)
    return Verdict.judge(conditions | {"the simulation resolves half a closed form": resolved})


def gradient_rows(decays, gradient):
    """Return four columns of `gradients`, each up to three times its memory, as table rows."""
    rows = []
    for column in np.unique(np.linspace(0, len(decays) - 1, 4).astype(int)):
        decay = decays[column]
        lag = np.unique(np.geomspace(1, 3 / (1 - decay), 100).astype(int))
        values = {"median": gradient[lag - 1, column], "theory": decay**lag}
        rows.append({"lambda": decay, "lag": lag, **values})
    return rows


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table, gradient = run.read_table("moments"), run.read_table("gradients")
    names: Any = NAMES | {rho: f"ρ = {rho:g}" for rho in table["rho"].tolist()}

    plain, remedy = [*NAMES][:2], [*NAMES][2:]
    plot = functools.partial(
        figures.curves,
        x="memory",
        series="rho",
        panel="moment",
        names=names,
        xlabel="memory 1 / (1 - λ), in steps",
        log_x=True,
    )
    for name, shown in (("curse", plain), ("remedy", remedy)):
        chosen = experiment.select(table, np.isin(table["moment"], shown))
        run.save_figure(name, plot(chosen, ylabel="second moment", log_y=True))
    chosen = experiment.select(table, np.isin(table["moment"], [*plain, remedy[-1]]))
    mean, error = (chosen[name] / chosen["theory"] for name in ("mean", "standard_error"))
    ratio = {"median": mean, "q25": mean - 2 * error, "q75": mean + 2 * error}
    ratio["theory"] = np.ones_like(mean)
    label = "simulation / closed form, ± 2 standard errors"
    run.save_figure("agreement", plot(chosen | ratio, ylabel=label))
    figure = figures.curves(
        gradient,
        "lag",
        "lambda",
        names={decay: f"λ = {decay:.4g}" for decay in gradient["lambda"].tolist()},
        xlabel="lag k = T - t (steps before the end)",
        ylabel=r"gradient $|\partial h_T / \partial h_{T-k}|$",
        log_x=True,
    )
    run.save_figure("gradients", figure)


def show(summary):
    columns = "plain state", "plain sensitivity", "normalised sensitivity", "remedied sensitivity"
    print(f"Second moments at lambda = {summary['lambda']:.6g}: simulation | closed form")
    rows = []
    for rho, entry in summary["rhos"].items():
        pairs = [(entry["simulated"][name], entry["closed_form"][name]) for name in columns]
        texts = [f"{simulated:.4g} | {closed:.4g}" for simulated, closed in pairs]
        rows.append([rho, *texts, f"{entry['standard_errors']:.2f}"])
    experiment.print_table(["rho", *columns, "standard errors off"], rows)
    print(f"Largest gradient: {summary['largest_gradient']:.4g}")
    print(f"Least after 1/(1 - lambda) steps: {summary['least_gradient_after_memory']:.4g}")
    print(f"Standard errors allowed: {summary['allowed_standard_errors']:.2f}")


run = experiment.Experiment("curse_of_memory", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
