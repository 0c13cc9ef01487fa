"""What a Lyapunov spectrum says of the attractor: its dimension, and how fast it makes entropy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from rnnjax.diagnostics.lyapunov import LyapunovSpectrum, error_of_mean


class Measurement(NamedTuple):
    """A number, or an array of them, with its standard error."""

    value: Any
    standard_error: Any  # NaN where it is not known


def kaplan_yorke_dimension(exponents: Any, standard_error: Any = None) -> Measurement:
    """Return the Kaplan-Yorke (Lyapunov) dimension of the attractor.

        D = k + (lambda_1 + ... + lambda_k) / |lambda_{k+1}|,

    k the last index with lambda_1 + ... + lambda_k >= 0. D = 0 if lambda_1 < 0, and D = N if all
    partial sums are non-negative. Only the first k + 1 exponents matter.

    Args:
        exponents: a `LyapunovSpectrum`, or an array `[*batch, num]`, descending, which is taken to
            hold all N exponents.
        standard_error: of an array's exponents, `[*batch, num]`, if known.

    Returns:
        D and its standard error, `[*batch]`. D is NaN where a spectrum with fewer than N exponents
        has no negative partial sum: these are too few to tell. The error is that of D linearised
        in the exponents (delta method). That of a spectrum is taken from the same blocks of time as
        the exponents' errors, so it allows for their correlations; for an array, errors are treated
        as independent. It knows nothing of the kinks of D at integers.

    Raises:
        ValueError: there are no exponents, they do not descend, or shapes differ.

    Source: Kaplan & Yorke 1979, "Chaotic behavior of multidimensional difference equations";
    Frederickson, Kaplan, Yorke, Yorke 1983, "The Liapunov dimension of strange attractors".
    """
    return _measured(exponents, standard_error, _dimension)


def entropy_rate(exponents: Any, standard_error: Any = None) -> Measurement:
    """Return the sum of the positive exponents, in nats per step.

        h = sum over lambda_i > 0 of lambda_i

    It bounds the Kolmogorov-Sinai entropy from above (Ruelle), and equals it where the invariant
    measure is smooth along unstable directions (Pesin), as is usually assumed.

    Args:
        exponents, standard_error: as for `kaplan_yorke_dimension`.

    Returns:
        h and its standard error, `[*batch]`, as for `kaplan_yorke_dimension`. h is NaN where the
        last of a spectrum with fewer than N exponents is still positive.

    Raises:
        ValueError: as for `kaplan_yorke_dimension`.

    Source: Pesin 1977, "Characteristic Lyapunov exponents and smooth ergodic theory"; Eckmann &
    Ruelle 1985, "Ergodic theory of chaos and strange attractors", section IV.
    """
    return _measured(exponents, standard_error, _entropy)


def _measured(given: Any, error: Any, quantity: Callable) -> Measurement:
    """Return `quantity(exponents, short)`, its value and its slopes, with the error they give."""
    means = size = None
    if isinstance(given, LyapunovSpectrum):
        if error is not None:
            raise ValueError(
                "standard_error must be None for a LyapunovSpectrum, which has its own"
            )
        given, error, _, means, size = given
    exponents = jnp.asarray(given) * 1.0
    if exponents.ndim == 0 or exponents.shape[-1] == 0:
        raise ValueError(f"exponents must have shape [*batch, num], num > 0; got {exponents.shape}")
    rises = exponents[..., 1:] > exponents[..., :-1]
    if not isinstance(rises, Tracer) and jnp.any(rises):
        raise ValueError("exponents must descend along the last axis, as in a LyapunovSpectrum")
    short = jnp.zeros((), bool) if size is None else size > exponents.shape[-1]
    value, slopes = quantity(exponents, short)
    if error is None:
        return Measurement(value, jnp.full_like(value, jnp.nan))
    error = jnp.asarray(error)
    if error.shape != exponents.shape:
        raise ValueError(
            f"standard_error must have the shape of exponents, {exponents.shape}; got {error.shape}"
        )
    spread = _of_blocks(slopes, means) if means is not None else _of_errors(slopes, error)
    return Measurement(value, jnp.where(jnp.isnan(value), jnp.nan, spread))


@jax.jit
def _of_blocks(slopes: Array, means: Array) -> Array:
    return error_of_mean(_weighted(slopes, means))


@jax.jit
def _of_errors(slopes: Array, errors: Array) -> Array:
    return jnp.sqrt(_weighted(slopes**2, errors**2))


def _weighted(weights: Array, values: Array) -> Array:
    """Return the sum of weights times values, also where a value without weight is infinite."""
    alive = weights != 0
    return jnp.sum(jnp.where(alive, weights * jnp.where(alive, values, 0), 0), axis=-1)


@jax.jit
def _dimension(exponents: Array, short: Array) -> tuple[Array, Array]:
    """Return D and its slopes with respect to the exponents."""
    num = exponents.shape[-1]
    sums = jnp.cumsum(exponents, axis=-1)
    k = jnp.sum(sums >= 0, axis=-1, keepdims=True)  # the sums of descending numbers fall for good
    total = jnp.take_along_axis(sums, jnp.maximum(k - 1, 0), axis=-1) * (k > 0)
    after = jnp.take_along_axis(exponents, jnp.minimum(k, num - 1), axis=-1)
    ended = k == num
    after = jnp.where(ended, -jnp.inf, after)
    place = jnp.arange(num)
    slopes = jnp.where(place < k, -1 / after, jnp.where(place == k, total / after**2, 0))
    value = jnp.where(ended & short[..., None], jnp.nan, k - total / after)
    return value[..., 0], slopes


@jax.jit
def _entropy(exponents: Array, short: Array) -> tuple[Array, Array]:
    """Return h and its slopes with respect to the exponents."""
    positive = exponents > 0
    value = jnp.sum(jnp.where(exponents <= 0, 0, exponents), axis=-1)  # NaN stays NaN
    value = jnp.where(positive[..., -1] & short, jnp.nan, value)
    return value, positive.astype(exponents.dtype)
