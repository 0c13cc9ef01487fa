"""Gradient profiles by lag, and their summaries: decay rate, half-life, lines, quartiles."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num


def by_lag(
    log_profile: Float[Array, "T *batch"], lengths: Int[Array, "*batch"], lags: int
) -> Float[Array, "K *batch"]:
    """Return entry k - 1 for lag k = 1 .. `lags` before each sequence's own end.

    Args:
        log_profile: from `log_gradient_profile`, entry t about the carry that enters step t.
        lengths: the length of each sequence, as given to `log_gradient_profile`.
        lags: K; at most the shortest length.
    """
    lag = jnp.arange(1, lags + 1).reshape(lags, *(1 for _ in lengths.shape))
    return jnp.take_along_axis(log_profile, lengths - lag, axis=0)


def decay_rate(log_profile: Float[Array, "K *batch"]) -> Float[Array, "*batch"]:
    """Return the rate r of the fit ln ||gradient|| = a - r k over lags k, in nats per step.

    Least squares over the finite entries. Negative where the gradient grows with the lag; NaN with
    fewer than two finite entries.

    Args:
        log_profile: entry k - 1 at lag k, as from `by_lag` or `gradient_profile`. (The result of
            `log_gradient_profile` runs from lag T to lag 1: reverse it first.)
    """
    lags = log_profile.shape[0]
    lag = jnp.arange(1.0, lags + 1).reshape(lags, *(1 for _ in log_profile.shape[1:]))
    finite = jnp.isfinite(log_profile)
    count = jnp.maximum(jnp.sum(finite, 0), 1)
    from_mean = jnp.where(finite, lag - jnp.sum(finite * lag, 0) / count, 0)
    values = jnp.where(finite, log_profile, 0)
    values = values - jnp.sum(values, 0) / count
    return -jnp.sum(from_mean * values, 0) / jnp.sum(from_mean**2, 0)


def half_life(log_profile: Float[Array, "K *batch"]) -> Float[Array, "*batch"]:
    """Return ln 2 / r, r the `decay_rate`: the lag over which the gradient's norm halves.

    Infinite where it does not decay (r <= 0). Argument as for `decay_rate`.
    """
    rate = decay_rate(log_profile)
    decays = rate > 0
    lasting = jnp.where(jnp.isnan(rate), jnp.nan, jnp.inf)
    return jnp.where(decays, jnp.log(2.0) / jnp.where(decays, rate, 1), lasting)


class LineFit(NamedTuple):
    """What `line_fit` returns."""

    slope: float
    r2: float  # share of the variance that the line explains; 1 if there is none


def line_fit(x: Num[np.ndarray, " n"], y: Num[np.ndarray, " n"]) -> LineFit:
    """Return slope and R^2 of the straight line through points, by least squares.

        y = a + slope x,   R^2 = 1 - Var[y - a - slope x] / Var[y]

    Points that are not finite are left out; NaN if there are fewer than two others.

    Args:
        x, y: coordinates; the finite points are at different x.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    if finite.sum() < 2:
        return LineFit(np.nan, np.nan)
    x, y = x[finite], y[finite]
    slope, start = np.polyfit(x, y, 1)
    left, spread = np.var(y - start - slope * x), np.var(y)
    return LineFit(float(slope), float(1 - left / spread) if spread > 0 else 1.0)


def quartiles(values: Any) -> dict[str, Any]:
    """Return `median`, `q25` and `q75` over the last axis, as they appear in tables.

    Between two ranks the quantile is their mean if all values are finite, and otherwise the lower
    one: there is no mean of -inf (a gradient that is exactly zero) and a number.
    """
    values = np.asarray(values)
    method = "averaged_inverted_cdf" if np.isfinite(values).all() else "inverted_cdf"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=-1, method=method)
    return {"median": middle, "q25": low, "q75": high}
