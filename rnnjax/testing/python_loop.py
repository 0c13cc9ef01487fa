"""The oracle of `rnnjax.unroll`: a loop in Python."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell

PyTree = Any


def python_loop(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree,
    *,
    seq_lengths: Any = None,
    mask: Any = None,
    masked_output: Any = None,
    resets: Any = None,
    reverse: bool = False,
    truncate_every: int | None = None,
) -> tuple[PyTree, Array, PyTree]:
    """Run a cell one example and one step at a time, as a textbook would: the oracle of `unroll`.

    Takes `xs [T, B, D]`, or a pytree of such arrays, and a carry with leaves `[B, ...]`;
    `seq_lengths [B]`, `mask [T, B]` and `resets [T, B]` must be concrete. Returns
    `(final_carry, outputs, carries)` as `unroll(return_carries=True)` does: `carries[t]` is the
    carry after step t.
    """
    total, batch = jax.tree.leaves(xs)[0].shape[:2]
    ready = prepare(cell, params)
    results = []
    for b in range(batch):
        state, outputs, carries = loop_one_example(
            cell,
            ready,
            lambda t, b=b: jax.tree.map(lambda x: x[t, b], xs),
            jax.tree.map(lambda c, b=b: c[b], initial_carry),
            total,
            length=None if seq_lengths is None else seq_lengths[b],
            mask=None if mask is None else mask[:, b],
            masked_output=masked_output,
            resets=None if resets is None else resets[:, b],
            reverse=reverse,
            truncate_every=truncate_every,
        )
        results.append((state, jnp.stack(outputs), stack(carries)))
    final = stack([r[0] for r in results])
    return final, *(stack([r[i] for r in results], axis=1) for i in (1, 2))


def loop_one_example(
    cell: Cell,
    ready: PyTree,
    read: Callable[[int], PyTree],
    state: PyTree,
    total: int,
    *,
    length: Any = None,
    mask: Any = None,
    masked_output: Any = None,
    resets: Any = None,
    reverse: bool = False,
    truncate_every: int | None = None,
) -> tuple[PyTree, list[Array], list[PyTree]]:
    """Run a cell over one example; return the final carry and lists of outputs and carries.

    Args:
        cell: the cell.
        ready: its effective parameters.
        read: x_t for a t in 0..total - 1.
        state: the initial carry.
        total: T, the number of steps.
        length: the number of valid steps; None means T.
        mask: as in `unroll`, `[T]`.
        masked_output: as in `unroll`.
        resets: as in `unroll`, `[T]`.
        reverse: as in `unroll`.
        truncate_every: as in `unroll`.
    """
    dtypes = jax.tree.map(lambda c: c.dtype, state)
    length = total if length is None else int(length)
    outputs: list[Any] = [None] * total
    carries: list[Any] = [None] * total
    done = 0
    for t in reversed(range(total)) if reverse else range(total):
        if t < length:
            taken = mask is None or mask[t]
            if taken and truncate_every and done and done % truncate_every == 0:
                state = lax.stop_gradient(state)
            if resets is not None and resets[t]:
                state = jax.tree.map(lambda s, d: s.astype(d), cell.initial_carry(()), dtypes)
            if taken:
                state, outputs[t] = _advance(cell, ready, state, read(t))
                done += 1
            elif isinstance(masked_output, str):
                outputs[t] = _output(cell, state)
            elif masked_output is not None:
                like = jax.eval_shape(cell.output, state)
                outputs[t] = jnp.broadcast_to(masked_output, like.shape).astype(like.dtype)
        carries[t] = state
    shape = jax.eval_shape(cell.output, state)
    blank = jnp.zeros(shape.shape, shape.dtype)
    return state, [blank if y is None else y for y in outputs], carries


@functools.partial(jax.jit, static_argnums=0)
def prepare(cell: Cell, params: PyTree) -> PyTree:
    """Return the effective parameters, by one compiled program."""
    return cell.prepare(params)


@functools.partial(jax.jit, static_argnums=0)
def _advance(cell, ready, carry, x):
    carry = cell.step(ready, carry, cell.project(ready, x))
    return carry, cell.output(carry)


@functools.partial(jax.jit, static_argnums=0)
def _output(cell, carry):
    return cell.output(carry)


def stack(trees: list[PyTree], axis: int = 0) -> PyTree:
    """Return pytrees of arrays stacked leaf by leaf along a new axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)
