"""The oracle of `rnnjax.unroll`: a loop in Python."""

import functools
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
    advance, ready = functools.partial(_advance, cell), cell.prepare(params)
    total, batch = jax.tree.leaves(xs)[0].shape[:2]
    results = []
    for b in range(batch):
        state = jax.tree.map(lambda c, b=b: c[b], initial_carry)
        dtypes = jax.tree.map(lambda c: c.dtype, state)
        length = total if seq_lengths is None else int(seq_lengths[b])
        outputs: list[Any] = [None] * total
        carries: list[Any] = [None] * total
        done = 0
        for t in reversed(range(total)) if reverse else range(total):
            if t < length:
                taken = mask is None or mask[t, b]
                if taken and truncate_every and done and done % truncate_every == 0:
                    state = lax.stop_gradient(state)
                if resets is not None and resets[t, b]:
                    state = jax.tree.map(lambda s, d: s.astype(d), cell.initial_carry(()), dtypes)
                if taken:
                    x = jax.tree.map(lambda x, at=(t, b): x[at], xs)
                    state, outputs[t] = advance(ready, state, x)
                    done += 1
                elif isinstance(masked_output, str):
                    outputs[t] = cell.output(state)
                elif masked_output is not None:
                    like = jax.eval_shape(cell.output, state)
                    outputs[t] = jnp.broadcast_to(masked_output, like.shape).astype(like.dtype)
            carries[t] = state
        shape = jax.eval_shape(cell.output, state)
        blank = jnp.zeros(shape.shape, shape.dtype)
        outputs = [blank if y is None else y for y in outputs]
        results.append((state, jnp.stack(outputs), stack(carries)))
    final = stack([r[0] for r in results])
    return final, *(stack([r[i] for r in results], axis=1) for i in (1, 2))


@functools.partial(jax.jit, static_argnums=0)
def _advance(cell, ready, carry, x):
    carry = cell.step(ready, carry, cell.project(ready, x))
    return carry, cell.output(carry)


def stack(trees: list[PyTree], axis: int = 0) -> PyTree:
    """Return pytrees of arrays stacked leaf by leaf along a new axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)
