"""Sequences of different lengths in one array: which steps are valid, and zeros elsewhere."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.recurrence.options import checked_lengths


def valid_steps(seq_lengths: Any, shape: tuple[int, ...], name: str = "seq_lengths") -> Any:
    """Return `[*batch, T]`, true before each sequence's end, or None without lengths.

    Args:
        seq_lengths: integers in 0..T, `[*batch]`, or None.
        shape: of the sequences, `(*batch, T, ...)` without the feature axis.
        name: of the argument, for error messages.

    Raises:
        ValueError, TypeError: the lengths do not fit.
    """
    *batch, total = shape
    lengths = checked_lengths(seq_lengths, total, tuple(batch), name)
    return None if lengths is None else jnp.arange(total) < lengths[..., None]


def zero_padding(xs: Array, valid: Any) -> Array:
    """Return `xs [*batch, T, D]` with zeros where `valid [*batch, T]` is false.

    Padding values, even NaN, reach neither values nor gradients.
    """
    return xs if valid is None else jnp.where(valid[..., None], xs, jnp.zeros_like(xs))


def masked_mean(losses: Array, seq_lengths: Any = None) -> Array:
    """Return the mean of `losses [*batch, T]` over all valid steps; 0 if there are none."""
    valid = valid_steps(seq_lengths, losses.shape)
    if valid is None:
        return losses.mean()
    return jnp.where(valid, losses, 0).sum() / jnp.maximum(valid.sum(), 1)


def at_last_step(xs: Array, seq_lengths: Any = None) -> Array:
    """Return `xs [*batch, T, D]` at each sequence's last valid step, `[*batch, D]`; 0 if none."""
    valid = valid_steps(seq_lengths, xs.shape[:-1])
    if valid is None:
        return xs[..., -1, :] if xs.shape[-2] else jnp.zeros_like(xs.sum(-2))
    lengths = jnp.asarray(seq_lengths)[..., None]
    last = valid & (jnp.arange(xs.shape[-2]) == lengths - 1)
    return jnp.where(last[..., None], xs, 0).sum(-2)


def last_rows(xs: Array, count: int, seq_lengths: Any = None) -> Array:
    """Return the `count` rows of `xs [*batch, count + T, D]` before each sequence's end.

    The first `count` rows precede the sequences' first steps.
    """
    if seq_lengths is None:
        return xs[..., xs.shape[-2] - count :, :]
    rows = jnp.asarray(seq_lengths)[..., None] + jnp.arange(count)
    return jnp.take_along_axis(xs, rows[..., None], axis=-2)


def flip(ys: Array, lengths: Any) -> Array:
    """Return `ys [T, *batch, ...]` with each sequence's valid steps reversed, padding last."""
    if lengths is None:
        return ys[::-1]
    total = ys.shape[0]
    time = jnp.arange(total).reshape(total, *(1 for _ in jnp.shape(lengths)))
    source = jnp.where(time < lengths, lengths - 1 - time, time)
    source = source.reshape(source.shape + (1,) * (ys.ndim - source.ndim))
    return jnp.take_along_axis(ys, source, axis=0)
