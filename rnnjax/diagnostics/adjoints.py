"""How a loss depends on the carry at every step: adjoints, and their norms in log space.

Notation: s_t is the whole carry entering step t, s_0 the initial and s_T the final one, and
J_t = d s_{t+1} / d s_t. Entry t of every result is about s_t, so its lag to the end is k = T - t.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.unroll import batch_shape, check_like, settle_dtypes, start_carry, unroll

PyTree = Any


def adjoints(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    carry: PyTree = None,
) -> PyTree:
    """Return dL/ds_t for every t: the total derivative, through every later step and output.

        a_t = J_t^T (a_{t+1} + (d y_t / d s_{t+1})^T dL/dy_t),   a_T = 0,   L = loss(outputs)

    One forward and one backward pass, as plain numbers: over long lags they underflow where
    `log_gradient_profile` does not. Differentiating with respect to the stacked outputs instead
    would miss every path through the recurrence.

    Args:
        cell, params, xs, carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        loss: any function of the outputs `[T, *batch, H]` to a scalar. For per-example adjoints
            let it be a sum over examples: a mean divides each by their number.

    Returns:
        A pytree like the carry with a leading T. Leaves of integers have zeros.

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `loss` returns no scalar.

    Source: Werbos 1990, "Backpropagation through time", equation 12 (ordered derivatives).
    """
    entering, outputs = _forward(cell, params, xs, carry, None)
    if (shape := jax.eval_shape(loss, outputs).shape) != ():
        raise ValueError(f"loss must return a scalar, got shape {shape}")
    return _adjoints(cell, params, xs, entering, jax.grad(loss)(outputs))


def log_gradient_profile(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    cotangent: PyTree,
    carry: PyTree = None,
    *,
    lengths: Any = None,
) -> Float[Array, "T *batch"]:
    """Return ln ||(d s_T / d s_t)^T cotangent|| for every t, each example by itself.

        v_T = cotangent,   v_t = J_t^T v_{t+1}

    v is renormalised at every step and the logs of its norms are summed pairwise, so the result
    holds in float32 at any T; -inf means a gradient that is exactly zero. Subtract
    ln ||cotangent|| to start at 0.

    Args:
        cell, params, xs, carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        cotangent: dL/ds_T or any other direction, a pytree like the carry, `[*batch, ...]`.
        lengths: valid steps of each sequence; from there on J is the identity, so s_T is the
            carry at the sequence's own end.

    Returns:
        Natural logs `[T, *batch]`. Entry t stands at lag T - t (`lengths` - t, if given).

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `cotangent` is unlike the carry.
    """
    return _profile(cell, params, xs, cotangent, carry, lengths)[0]


def log_gradient_profile_by_part(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    cotangent: PyTree,
    carry: PyTree = None,
    *,
    lengths: Any = None,
) -> PyTree:
    """Return `log_gradient_profile` split by leaf of the carry: a pytree like it, `[T, *batch]`.

    For an LSTM, `.c` is ln ||(d s_T / d c_t)^T cotangent|| and `.h` the same for h_t; their
    squares add up to the square of the whole. Arguments and errors as there.
    """
    return _profile(cell, params, xs, cotangent, carry, lengths)[1]


def _profile(cell, params, xs, cotangent, carry, lengths):
    entering, _ = _forward(cell, params, xs, carry, lengths)
    check_like(cotangent, jax.tree.map(lambda s: s[0], entering), "cotangent")
    lengths = None if lengths is None else jnp.asarray(lengths)
    return _log_profile(cell, params, xs, entering, cotangent, lengths)


def _forward(cell, params, xs, carry, lengths):
    """Return s_0 .. s_{T-1} and the outputs."""
    batch = batch_shape(cell, xs)
    first = settle_dtypes(cell, params, xs, start_carry(cell, carry, batch, "carry"))
    _, outputs, after = unroll(cell, params, xs, first, lengths=lengths, return_carries=True)
    entering = jax.tree.map(lambda s, ss: jnp.concatenate([s[None], ss[:-1]]), first, after)
    return entering, outputs


@functools.partial(jax.jit, static_argnames="cell")
def _adjoints(cell, params, xs, entering, output_cotangents):
    def pull_back(later, now):
        carry, u, output_cotangent = now
        floats, merge = _partition(carry)

        def advance(floats):
            new = cell.step(params, merge(floats), u)
            return _partition(new)[0], cell.output(new)

        (earlier,) = jax.vjp(advance, floats)[1]((later, output_cotangent))
        return earlier, earlier

    floats, merge = _partition(entering)
    nothing = [jnp.zeros_like(s[0]) for s in floats]
    now = entering, cell.project(params, xs), output_cotangents
    _, found = lax.scan(pull_back, nothing, now, reverse=True)
    return merge(found, jax.tree.map(lambda s: jnp.zeros(s.shape), entering))


@functools.partial(jax.jit, static_argnames="cell")
def _log_profile(cell, params, xs, entering, cotangent, lengths):
    batch = batch_shape(cell, xs)

    def pull_back(later, now):
        t, carry, u = now
        floats, merge = _partition(carry)
        _, vjp = jax.vjp(lambda floats: _partition(cell.step(params, merge(floats), u))[0], floats)
        (earlier,) = vjp(later)
        if lengths is not None:
            earlier = [
                jnp.where(_expand(t < lengths, new), new, old)
                for new, old in zip(earlier, later, strict=True)
            ]
        unit, norm = _normalise(earlier, len(batch))
        return unit, (jnp.log(norm), [jnp.log(_norm([v], len(batch))) for v in unit])

    floats, merge = _partition(entering)
    floating = _partition(cotangent, like=entering)[0]
    unit, norm = _normalise(
        [c.astype(s.dtype) for c, s in zip(floating, floats, strict=True)], len(batch)
    )
    times = jnp.arange(jax.tree.leaves(xs)[0].shape[0])
    now = times, entering, cell.project(params, xs)
    _, (factors, parts) = lax.scan(pull_back, unit, now, reverse=True)
    # A running float32 sum would drift by a rounding error a step, all of one sign where the
    # factors are equal; pairwise sums do not.
    joint = jnp.log(norm) + lax.associative_scan(jnp.add, factors, reverse=True)
    nowhere = jax.tree.map(lambda _: jnp.full_like(joint, -jnp.inf), entering)
    return joint, merge([joint + part for part in parts], nowhere)


def _partition(tree, like=None):
    """Return the leaves of `tree` that can be differentiated, and how to put others in their place.

    Carries may hold integers (a step counter); no gradient flows through those.
    """
    leaves, structure = jax.tree.flatten(tree)
    kinds = jax.tree.leaves(tree if like is None else like)
    floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in kinds]

    def merge(floats, rest=tree):
        floats = iter(floats)
        pairs = zip(floating, jax.tree.leaves(rest), strict=True)
        return structure.unflatten([next(floats) if is_float else leaf for is_float, leaf in pairs])

    return [leaf for leaf, is_float in zip(leaves, floating, strict=True) if is_float], merge


def _normalise(leaves, batch_ndim):
    """Return `leaves` scaled to a joint norm of one for each example, and that norm `[*batch]`."""
    norm = _norm(leaves, batch_ndim)
    safe = jnp.where(norm > 0, norm, 1)
    return [v / _expand(safe, v) for v in leaves], norm


def _norm(leaves, batch_ndim):
    """Return the Euclidean norm over everything but the batch axes, free of under- and overflow."""
    axes = [tuple(range(batch_ndim, v.ndim)) for v in leaves]
    peaks = [jnp.max(jnp.abs(v), axis, initial=0) for v, axis in zip(leaves, axes, strict=True)]
    peak = functools.reduce(jnp.maximum, peaks)
    safe = jnp.where(peak > 0, peak, 1)
    squares = (
        jnp.sum(jnp.abs(v / _expand(safe, v)) ** 2, axis)
        for v, axis in zip(leaves, axes, strict=True)
    )
    return safe * jnp.sqrt(sum(squares)) * (peak > 0)


def _expand(a, like):
    """Append axes of one to `a [*batch]` until it broadcasts against `like [*batch, ...]`."""
    return a.reshape(a.shape + (1,) * (like.ndim - a.ndim))
