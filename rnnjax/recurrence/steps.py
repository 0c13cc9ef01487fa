"""What the options of `unroll` do to a step: to the carry that enters it and to the new one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.recurrence.carries import clip_gradient, partition, probe_norm

PyTree = Any


class Now(NamedTuple):
    """What the options say about a step, beside its input; leaves `[T, *batch, ...]`, or None."""

    valid: Any
    reset: Any
    cut: Any
    perturbation: Any
    probe: Any


def flags(
    total: Any,
    batch_ndim: int,
    lengths: Any,
    mask: Any,
    resets: Any,
    *,
    truncate_every: int | None,
    reverse: bool,
) -> tuple[Any, Any, Any, Any]:
    """Return where a step is within its sequence, is taken, is preceded by a reset, or by a cut.

    Each is `[T, *batch]`, or None: within, taken everywhere; reset, cut nowhere. A masked step is
    not taken but may be reset; past a sequence's end nothing happens.
    """
    times = jnp.arange(total).reshape(total, *[1] * batch_ndim)
    within = None if lengths is None else times < lengths
    valid = _both(within, mask)
    cut = None
    if truncate_every is not None:
        last = (total if lengths is None else lengths) - 1
        age = last - times if reverse else times  # steps already taken
        if mask is not None:
            taken = valid.astype(jnp.int32)
            age = lax.cumsum(taken, reverse=reverse) - taken
        cut = _both(valid, (age > 0) & (age % truncate_every == 0))
    return within, valid, None if resets is None else _both(within, resets), cut


def _both(flags, others):
    """Return where both are true; None is true everywhere."""
    return others if flags is None else flags if others is None else flags & others


def enter(batch_ndim, shared, carry, now):
    """Return the carry as it enters a step."""
    reset_carry, clip = shared
    carry = _marked(carry, now.perturbation, now.probe, clip, batch_ndim)
    if now.cut is not None:
        carry = where(now.cut, lax.stop_gradient(carry), carry)
    return carry if now.reset is None else where(now.reset, reset_carry, carry)


def leave(carry, new, now):
    """Return the carry after a step; one that is not taken leaves it as it was."""
    return new if now.valid is None else where(now.valid, new, carry)


def _marked(carry, perturbation, probe, clip, batch_ndim):
    """Return the carry; its gradient is clipped, measured or exposed on its way back."""
    floats, merge = partition(carry)
    if clip is not None:
        floats = clip_gradient(floats, clip, batch_ndim)
    if probe is not None:
        floats = probe_norm(floats, probe, batch_ndim)
    if perturbation is not None:
        added = partition(perturbation, like=carry)[0]
        floats = [s + a.astype(s.dtype) for s, a in zip(floats, added, strict=True)]
    return merge(floats)


def where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """Select between pytrees by a condition on their leading axes."""

    def select(a, b):
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (b.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(select, new, old)
