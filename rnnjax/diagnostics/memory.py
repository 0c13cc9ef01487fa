"""How far back a network remembers, as a number or a curve, with confidence intervals."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, check_size
from rnnjax.diagnostics.linear import forward_mode
from rnnjax.recurrence.carries import expand, flatten, partition, unflatten

PyTree = Any


class Estimate(NamedTuple):
    """A number, or an array of them, with its confidence interval."""

    value: Any
    low: Any
    high: Any


def memory_horizon(log_profile: Float[Array, "K *batch"], epsilon: float) -> Float[Array, "*batch"]:
    """Return the smallest lag k at which the gradient's norm lies below epsilon.

        min {k : log_profile[k - 1] < ln epsilon}

    The first crossing counts, even if the profile rises again. Infinite where there is none within
    K lags; NaN where the profile is NaN before there is one.

    Args:
        log_profile: natural logs, entry k - 1 at lag k, as from `by_lag`.
        epsilon: positive. Where the profile is not relative to lag 0, in the gradient's units.

    Raises:
        ValueError: `epsilon` is not positive and finite, or the profile has no lag.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon}")
    log_profile = jnp.asarray(log_profile)
    if log_profile.ndim == 0 or log_profile.shape[0] == 0:
        raise ValueError(f"log_profile must have shape [K, *batch], K > 0; got {log_profile.shape}")
    crossed = ~(log_profile >= math.log(epsilon))
    first = jnp.argmax(crossed, axis=0)
    there = jnp.take_along_axis(log_profile, first[None], axis=0)[0]
    return jnp.where(jnp.any(crossed, 0), jnp.where(jnp.isnan(there), jnp.nan, first + 1), jnp.inf)


def leaky_log_profile(keeps: Any, lags: int) -> Float[np.ndarray, "K"]:
    """Return the log gradient profile of units that keep a fixed share of their state at each step.

        ln ||d s_T / d s_{T-k} v|| = ln sqrt(mean over units of keep^2k),   k = 1 .. K

    v a random direction of unit length. With all weights zero this is the LSTM and the GRU, whose
    units keep s(b), b the forget bias and s the logistic function.

    Args:
        keeps: positive, `[units]`, or a number if all units are alike.
        lags: K.
    """
    keeps = np.atleast_1d(keeps)
    powers = 2 * np.log(keeps) * np.arange(1, lags + 1)[:, None]
    return np.logaddexp.reduce(powers, axis=1) / 2 - math.log(len(keeps)) / 2


def random_carry_direction(key: Any, cell: Cell, batch: tuple[int, ...]) -> PyTree:
    """Return random directions in the space of a cell's carries, each of unit length.

    Args:
        key: of the draw.
        batch: the shape of a batch; every example has its own direction.

    Returns:
        A pytree like `cell.initial_carry(batch)`. Complex entries have random real and imaginary
        parts; leaves that are neither real nor complex are as there: no gradient flows through
        them.
    """
    floats, merge = partition(cell.initial_carry(batch))
    keys = jax.random.split(key, len(floats))
    drawn = [jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, floats, strict=True)]
    axes = [tuple(range(len(batch), v.ndim)) for v in drawn]
    squares = sum(jnp.sum(jnp.abs(v) ** 2, axis) for v, axis in zip(drawn, axes, strict=True))
    return merge([v / expand(jnp.sqrt(squares), v) for v in drawn])


def time_constant(exponent: Any) -> Float[Array, "..."]:
    """Return the steps over which a perturbation shrinks by a factor e, at a Lyapunov exponent.

        tau = -1 / lambda_1,    infinite where lambda_1 >= 0

    Args:
        exponent: lambda_1, the largest, in nats per step; any shape.
    """
    exponent = jnp.asarray(exponent) * 1.0
    shrinks = exponent < 0
    lasting = jnp.where(jnp.isnan(exponent), jnp.nan, jnp.inf)
    return jnp.where(shrinks, -1 / jnp.where(shrinks, exponent, -1), lasting)


def confidence_interval(
    statistic: Callable[[np.ndarray], Any],
    samples: Any,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return `statistic(samples)` with a bootstrap confidence interval.

        low, high = the (1 -+ level) / 2 quantiles of statistic(samples[..., i]),

    i drawn with replacement, `resamples` times. The quantiles are order statistics, rounded
    outwards, so a bound may be an infinite half-life. If the statistic of any resample is NaN, so
    are the bounds. With fewer than about ten units the interval is narrower than its level says.

    Example: the half-life of a profile `[K, S]` over S seeds:

        confidence_interval(lambda p: half_life(jnp.median(p, -1)), log_profile)

    Args:
        statistic: `[..., n]` to a number or an array of fixed shape.
        samples: `[..., n]`; independent units along the last axis: seeds, or examples. The other
            axes are kept together.
        level: the confidence level, between 0 and 1.
        resamples: the number of resamples; the bounds at level 0.95 need about a thousand.
        seed: of the resampling. The same seed draws the same units.

    Raises:
        ValueError: fewer than two units, `level` is not between 0 and 1, or `resamples` is not a
            positive integer.

    Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", section 13.3 (percentile
    interval).
    """
    samples = np.asarray(samples)
    if samples.ndim == 0 or samples.shape[-1] < 2:
        raise ValueError(
            "samples must hold at least two independent units along the last axis; got shape "
            f"{samples.shape}"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    check_size("resamples", resamples)
    units = samples.shape[-1]
    draws = np.random.default_rng(seed).integers(units, size=(resamples, units))
    results = np.array([statistic(samples[..., draw]) for draw in draws], float)
    low = np.quantile(results, (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(results, (1 + level) / 2, axis=0, method="higher")
    return Estimate(np.asarray(statistic(samples), float)[()], low, high)


def fisher_memory_curve(
    cell: Cell, params: PyTree, lags: Any, direction: Any = None
) -> Float[np.ndarray, "K"]:
    """Return how much the state of a noisy linear network tells about an earlier input.

        s' = W s + v x + z,   z ~ N(0, I),   C = sum_j W^j W^jT,   J(k) = v^T W^kT C^-1 W^k v

    J(k) is the Fisher information about the input that was read k steps before the last one read,
    in units of what a noisy v x alone would tell: v has unit length. (The paper's k: the last input
    has k = 0 and lag 1.) The sum over all k is 1 for a normal W and at most N for any other.
    Computed in float64, from W and v in the precision of the parameters.

    Args:
        cell: a linear cell with a state of N real dimensions, such as `Elman` with
            `activation_fn=identity`; a complex entry counts as two, integer leaves do not count. W
            is the Jacobian of its step, v that of `project` and `step` along `direction`, divided
            by its length. A bias makes no difference.
        lags: K integers k >= 0.
        direction: `[D]`, the direction in which x varies; None for a cell with one input.

    Raises:
        ValueError: a lag is negative or not an integer; the cell is not linear; the spectral
            radius of W is not below 1, and noise accumulates without bound; the direction does not
            fit or does not reach the state.

    Source: Ganguli, Huh, Sompolinsky 2008, "Memory traces in dynamical systems", PNAS 105.
    """
    lags = np.asarray(lags)
    if lags.ndim != 1 or not np.issubdtype(lags.dtype, np.integer) or np.any(lags < 0):
        raise ValueError(f"lags must be a sequence of integers from 0 on, got {lags}")
    W, v = _linear_map(cell, params, np.ones(1) if direction is None else np.asarray(direction))
    if not (radius := np.max(np.abs(np.linalg.eigvals(W)))) < 1:
        raise ValueError(f"the recurrent matrix must have a spectral radius below 1, got {radius}")
    if not (length := np.linalg.norm(v)) > 0:
        raise ValueError(f"direction {direction} does not reach the state of the cell")
    covariance, power = np.eye(len(v)), W
    while np.any(np.abs(power) > 0):  # the sum over j < n, and W^n; n doubles until W^n is zero
        covariance, power = covariance + power @ covariance @ power.T, power @ power
    root = np.linalg.cholesky(covariance)
    traces = [v / length]  # W^k v
    for _ in range(max(lags, default=0)):
        traces.append(W @ traces[-1])
    return np.sum(np.linalg.solve(root, np.stack(traces, -1)) ** 2, 0)[lags]


@jax.default_matmul_precision("float32")
def _linear_map(cell, params, direction):
    """Return W `[N, N]` and v `[N]` of a linear cell, `s' = W s + v x + constant`."""
    carry = cell.initial_carry(())
    like, merge = partition(carry)
    start = flatten(like, 0)
    ready = cell.prepare(params)

    def step(flat, x):
        u = cell.project(ready, x * jnp.asarray(direction, start.dtype))
        after = cell.step(ready, merge(unflatten(flat, like, 0)), u)
        return flatten(partition(after, like=carry)[0], 0)

    away = jax.random.normal(jax.random.key(0), start.shape, start.dtype)
    with forward_mode(cell):
        here, *others = (
            np.column_stack(jax.jacfwd(step, (0, 1))(s, x)).astype(float)
            for s, x in ((0 * away, 0.0), (away, 1.0), (-away, -1.0))
        )
    tolerance = math.sqrt(jnp.finfo(start.dtype).eps) * np.max(np.abs(others))
    if not all(np.max(np.abs(other - here)) <= tolerance for other in others):
        raise ValueError(
            f"cell must be linear; the Jacobian of {type(cell).__name__}'s step depends on the "
            "state or the input"
        )
    return here[:, :-1], here[:, -1]
