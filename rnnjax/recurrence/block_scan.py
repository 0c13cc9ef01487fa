"""Linear recurrences with block-diagonal matrices over all time steps at once.

    x_t = A_t x_{t-1} + b_t,   x_0 = 0,   A [T, *batch, U, k, k],   b [T, *batch, U, k]

U blocks of k numbers for each example: one block of all N entries of a state (dense), or one for
each unit. T steps take O(log T) operations one after the other.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def solve(a: Array, b: Array) -> Array:
    """Return x with x_t = A_t x_{t-1} + b_t from x_0 = 0.

    Products of A stop growing at about the root of their type's largest number. So infinity times
    zero, NaN, does not arise where b is zero.
    """

    def after(first, second):
        (a, b), (c, d) = first, second
        return _bounded(_times(c, a)), _apply(c, b) + d

    return lax.associative_scan(after, (a, b))[1]


def solve_damped(a: Array, b: Array, damping: Any) -> Array:
    """Return the x that minimises sum |x_t - A_t x_{t-1} - b_t|^2 + damping sum |x_t|^2.

    x_0 = 0. It is the mean that a Kalman smoother finds for observations of zero: a scan forward
    filters, and a scan backward smooths. Whatever A is, the norm of x over all steps is at most
    that of b over sqrt(damping).

    Source: Särkkä, Garcia-Fernandez 2021, "Temporal parallelization of Bayesian smoothers",
    arXiv:1905.13002, lemmas 7-10, with unit noise of the state.
    """
    one = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    gain = damping / (1 + damping)  # of the observation, whose noise is 1 / damping
    a = a.at[0].set(0)  # x_0 is known
    elements = (
        (1 - gain) * a,
        (1 - gain) * b,
        (1 - gain) * one,
        -gain * _apply(_turned(a), b),
        gain * _times(_turned(a), a),
    )
    _, mean, spread, _, _ = lax.associative_scan(_filtered_after, elements)
    ahead = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    term = jnp.concatenate([b[1:], jnp.zeros_like(b[:1])])
    across = _times(spread, _turned(ahead))
    predicted = _times(ahead, across) + one  # the covariance of x_{t+1}, given what came before
    back = _turned(_divide(predicted, _turned(across)))
    start = mean - _apply(back, _apply(ahead, mean) + term)

    def before(later, earlier):
        (e, g), (f, h) = later, earlier
        return _times(f, e), _apply(f, g) + h

    return lax.associative_scan(before, (back, start), reverse=True)[1]


def _filtered_after(first, second):
    (a, b, c, eta, j), (a2, b2, c2, eta2, j2) = first, second
    one = jnp.eye(a.shape[-1], dtype=a.dtype)
    inner = _turned(_divide(_turned(one + _times(c, j2)), _turned(a2)))  # A2 (1 + C J2)^-1
    outer = _turned(_divide(one + _times(c, j2), a))  # A^T (1 + J2 C)^-1
    return (
        _times(inner, a),
        _apply(inner, b + _apply(c, eta2)) + b2,
        _times(_times(inner, c), _turned(a2)) + c2,
        _apply(outer, eta2 - _apply(j2, b)) + eta,
        _times(_times(outer, j2), a) + j,
    )


def _times(a, b):
    return a * b if a.shape[-1] == 1 else a @ b


def _apply(a, x):
    return a[..., 0] * x if a.shape[-1] == 1 else jnp.einsum("...ij,...j->...i", a, x)


def _turned(a):
    return jnp.swapaxes(a, -1, -2)


def _divide(a, b):
    """Return A^-1 B."""
    return b / a if a.shape[-1] == 1 else jnp.linalg.solve(a, b)


def _bounded(a):
    largest = math.sqrt(jnp.finfo(a.dtype).max) / a.shape[-1]
    return jnp.clip(a, -largest, largest)
