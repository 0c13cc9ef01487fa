"""Sequences of different lengths in one array: which steps count, and zeros elsewhere."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.recurrence.options import checked_flags, checked_lengths


def valid_steps(
    seq_lengths: Any, shape: tuple[int, ...], name: str = "seq_lengths", mask: Any = None
) -> Any:
    """Return `[*batch, T]`, true at the steps that count, or None if all do.

    Args:
        seq_lengths: integers in 0..T, `[*batch]`, or None. Steps past the end do not count.
        shape: of the sequences, `(*batch, T)`.
        name: of the argument, for error messages.
        mask: booleans `[*batch, T]`, false at steps that do not count, or None.

    Raises:
        ValueError, TypeError: the lengths or the mask do not fit.
    """
    *batch, total = shape
    lengths = checked_lengths(seq_lengths, total, tuple(batch), name)
    within = None if lengths is None else jnp.arange(total) < lengths[..., None]
    mask = checked_flags("mask", mask, tuple(shape))
    return within if mask is None else mask if within is None else mask & within


def zero_padding(xs: Array, valid: Any) -> Array:
    """Return `xs [*batch, T, D]` with zeros where `valid [*batch, T]` is false.

    Padding values, even NaN, reach neither values nor gradients.
    """
    return xs if valid is None else jnp.where(valid[..., None], xs, jnp.zeros_like(xs))


def masked_mean(losses: Array, seq_lengths: Any = None, mask: Any = None) -> Array:
    """Return the mean of `losses [*batch, T]` over the steps that count; 0 if there are none."""
    valid = valid_steps(seq_lengths, losses.shape, mask=mask)
    if valid is None:
        return losses.mean()
    return jnp.where(valid, losses, 0).sum() / jnp.maximum(valid.sum(), 1)


def at_last_step(xs: Array, seq_lengths: Any = None, mask: Any = None) -> Array:
    """Return `xs [*batch, T, D]` at each sequence's last step that counts, `[*batch, D]`.

    Zero if no step counts.
    """
    valid = valid_steps(seq_lengths, xs.shape[:-1], mask=mask)
    if valid is None:
        return xs[..., -1, :] if xs.shape[-2] else jnp.zeros_like(xs.sum(-2))
    left = lax.cumsum(valid.astype(jnp.int32), axis=valid.ndim - 1, reverse=True)
    return jnp.where((valid & (left == 1))[..., None], xs, 0).sum(-2)


def last_rows(xs: Array, count: int, seq_lengths: Any = None) -> Array:
    """Return the `count` rows of `xs [*batch, count + T, D]` before each sequence's end.

    The first `count` rows precede the sequences' first steps.
    """
    if seq_lengths is None:
        return xs[..., xs.shape[-2] - count :, :]
    rows = jnp.asarray(seq_lengths)[..., None] + jnp.arange(count)
    return jnp.take_along_axis(xs, rows[..., None], axis=-2)


def flip(tree: Any, lengths: Any) -> Any:
    """Return leaves `[T, *batch, ...]` with each sequence's valid steps reversed; padding stays."""
    if lengths is None:
        return jax.tree.map(lambda ys: ys[::-1], tree)

    def flipped(ys):
        total = ys.shape[0]
        time = jnp.arange(total).reshape(total, *(1 for _ in jnp.shape(lengths)))
        source = jnp.where(time < lengths, lengths - 1 - time, time)
        source = source.reshape(*source.shape, *[1] * (ys.ndim - source.ndim))
        return jnp.take_along_axis(ys, source, axis=0)

    return jax.tree.map(flipped, tree)
