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


def enter(batch_ndim, shared, carry, now):
    """Return the carry as it enters a step."""
    reset_carry, clip = shared
    carry = _marked(carry, now.perturbation, now.probe, clip, batch_ndim)
    if now.cut is not None:
        carry = where(now.cut, lax.stop_gradient(carry), carry)
    return carry if now.reset is None else where(now.reset, reset_carry, carry)


def leave(carry, new, now):
    """Return the carry after a step; in the padding it stays as it was."""
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
