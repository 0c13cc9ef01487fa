"""How many dimensions the states of a network fill, and along which directions."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from rnnjax.diagnostics.linear import precise
from rnnjax.recurrence.carries import flatten


class PrincipalComponents(NamedTuple):
    """What `principal_components` returns."""

    mean: Any  # [N], of the states
    axes: Any  # [N, num], orthonormal columns, in descending order of their variance
    variance: Any  # [num], of the states along each axis
    share: Any  # [num], of the total variance
    projections: Any  # [*samples, num], (states - mean) @ axes


@precise
def participation_ratio(states: Any) -> Float[Array, ""]:
    """Return the effective number of dimensions that the states fill.

        D = (sum_i l_i)^2 / sum_i l_i^2 = (tr C)^2 / tr C^2

    l_i the eigenvalues of the covariance C of the states: N if all are equal, 1 if there is one. It
    is biased towards small numbers where the samples are few or depend on each other; M independent
    samples of N equal dimensions have about N M / (N + M).

    Args:
        states: `[*samples, N]`, such as the outputs `[T, *batch, H]` of `unroll`: all of T and
            batch are samples. A complex entry counts as two real dimensions.

    Returns:
        D, NaN where all states are equal.

    Raises:
        ValueError: there are fewer than two samples or no dimension.
        FloatingPointError: a state is not finite.

    Source: Rajan, Abbott, Sompolinsky 2010, "Inferring stimulus selectivity from the spatial
    structure of neural network dynamics"; Gao et al. 2017, "A theory of multineuronal
    dimensionality, dynamics and measurement".
    """
    return _ratio(_rows(states))


@jax.jit
def _ratio(rows):
    rows = rows - rows.mean(axis=0)
    peak = jnp.max(jnp.abs(rows))  # squares of squares must not underflow
    rows = rows / lax.stop_gradient(jnp.where(peak > 0, peak, 1))
    samples, size = rows.shape
    gram = rows.T @ rows if size <= samples else rows @ rows.T  # they share their eigenvalues
    return jnp.trace(gram) ** 2 / jnp.sum(gram**2)


@precise
def principal_components(states: Any, num: int | None = None) -> PrincipalComponents:
    """Return the leading principal components of the states.

        C = (states - mean)^T (states - mean) / (samples - 1) = sum_i variance_i axis_i axis_i^T

    The entry of an axis with the largest modulus is positive.

    Args:
        states: `[*samples, N]`, as for `participation_ratio`. A complex entry counts as two real
            dimensions, its real and its imaginary part.
        num: how many; None means all, N or the number of samples if that is smaller.

    Raises:
        ValueError: `num` is out of range, there are fewer than two samples, or no dimension.
        FloatingPointError: a state is not finite.
    """
    rows = _rows(states)
    most = min(rows.shape)
    if num is not None and not 1 <= num <= most:
        raise ValueError(f"num must lie in 1..min(samples, N) = 1..{most}, got {num}")
    found = _components(rows, num or most)
    shape = *jnp.shape(states)[:-1], num or most
    return found._replace(projections=found.projections.reshape(shape))


@functools.partial(jax.jit, static_argnames="num")
def _components(rows, num):
    mean = rows.mean(axis=0)
    _, values, axes = jnp.linalg.svd(rows - mean, full_matrices=False)
    variance = values**2 / (rows.shape[0] - 1)
    largest = jnp.take_along_axis(axes, jnp.argmax(jnp.abs(axes), axis=1)[:, None], axis=1)
    axes = (axes * jnp.where(largest < 0, -1, 1))[:num].T
    share = variance[:num] / jnp.sum(variance)
    return PrincipalComponents(mean, axes, variance[:num], share, (rows - mean) @ axes)


def _rows(states):
    """Return the states as real rows `[samples, N]`."""
    states = jnp.asarray(states)
    if states.ndim < 2 or 0 in states.shape or states[..., 0].size < 2:
        raise ValueError(
            "states must have shape [*samples, N] with at least two samples and N > 0, got "
            f"{states.shape}"
        )
    if not isinstance(states, Tracer) and not jnp.isfinite(states).all():
        raise FloatingPointError("states must be finite")
    rows = states.reshape(-1, states.shape[-1]) * 1.0
    return flatten([rows], 1)
