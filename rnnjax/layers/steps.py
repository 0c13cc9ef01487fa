"""Sequences and what is said of their steps, batch-major or time-major, as `unroll` takes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.layers.padding import valid_steps
from rnnjax.recurrence.options import numbers
from rnnjax.recurrence.steps import where

PyTree = Any


def time_first(inputs: Any, time_major: bool, own: int) -> PyTree:
    """Return inputs `[*batch, T, D]`, one array or a tree of them, as arrays `[T, *batch, D]`.

    Args:
        inputs: an array, nested lists of numbers, or a tree of arrays that agree on all axes but
            the last, for a cell that takes one.
        time_major: the inputs are `[T, *batch, D]`.
        own: the number of axes of one example's input at one step, usually 1.

    Raises:
        TypeError: the inputs are a list of arrays.
        ValueError: an array has too few axes.
    """
    if isinstance(inputs, list) and any(isinstance(x, jax.Array | np.ndarray) for x in inputs):
        raise TypeError(
            f"inputs must be one array, got a list of {len(inputs)}; if each is a step, write "
            f"jnp.stack(inputs, axis={0 if time_major else -1 - own}); if each is a sequence, "
            "rnnjax.datasets.pad makes one array of them"
        )
    if isinstance(inputs, list):
        inputs = jnp.asarray(inputs)
    for x in jax.tree.leaves(inputs):
        if jnp.ndim(x) <= own:
            raise ValueError(
                f"inputs must have an axis for time and {'one' if own == 1 else own} for features, "
                f"got shape {jnp.shape(x)}"
            )
    if time_major:
        return jax.tree.map(jnp.asarray, inputs)
    return jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), -1 - own, 0), inputs)


def flags_first(flags: Any, time_major: bool) -> Any:
    """Return flags `[*batch, T]` as `[T, *batch]`; None stays None."""
    return flags if flags is None or time_major else jnp.moveaxis(jnp.asarray(flags), -1, 0)


def last_steps(first_steps: Any) -> Any:
    """Return the last step of each sequence packed into one, of their first; flags `[T, ...]`."""
    if first_steps is None:
        return None
    flags = jnp.asarray(first_steps)
    return jnp.concatenate([flags[1:], jnp.zeros_like(flags[:1])])


def emitted(
    outputs: Array, seq_lengths: Any, mask: Any, masked_output: Any, time_major: bool = False
) -> Array:
    """Return `outputs [*batch, T, H]` with `masked_output` where masked, and zeros past the end.

    Args:
        outputs: `[*batch, T, ..., H]`, or `[T, *batch, ..., H]` with `time_major`.
        seq_lengths: valid steps of each sequence, `[*batch]`, or None.
        mask: booleans `[*batch, T]`, or `[T, *batch]` with `time_major`, or None.
        masked_output: numbers that broadcast to the outputs; None means zeros.

    Raises:
        ValueError: `masked_output` does not broadcast.
    """
    if seq_lengths is None and mask is None:
        return outputs
    known: Any = seq_lengths if mask is None else mask
    shape = outputs.shape[: jnp.ndim(known) + (mask is None)]
    if time_major:
        shape = *shape[1:], shape[0]
        mask = None if mask is None else jnp.moveaxis(jnp.asarray(mask), 0, -1)
    valid, within = valid_steps(seq_lengths, shape, mask=mask), valid_steps(seq_lengths, shape)
    if time_major:
        valid, within = (None if v is None else jnp.moveaxis(v, -1, 0) for v in (valid, within))
    others = jnp.zeros_like(outputs)
    if masked_output is not None:
        value = numbers(masked_output, outputs.shape).astype(outputs.dtype)
        others = value if within is None else where(within, value, others)
    counted: Any = valid
    return where(counted, outputs, others)
