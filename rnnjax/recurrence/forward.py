"""The forward loop of the fast path: the input half of a chunk at once, then step by step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.kernels import product
from rnnjax.recurrence.chunks import Chunks, at, put, rows
from rnnjax.recurrence.options import batch_shape
from rnnjax.recurrence.plan import Plan

PyTree = Any


def forward(
    plan: Plan,
    chunks: Chunks,
    ready: PyTree,
    carry: PyTree,
    xs: PyTree,
    now: PyTree,
    shared: PyTree,
    *,
    keep: bool,
) -> tuple[PyTree, PyTree, list]:
    """Return the final carry, the carries after each step, and the arrays that `backward` needs."""
    cell, half, size = plan.cell, plan.half, chunks.size
    weights, weights_rest = plan.weights_over(batch_shape(cell, xs), ready)
    kernel = cell.recurrent_kernel(ready)
    stacks = plan.kept

    def step(us, now, offset, k, loop):
        carry, (after, kept) = loop
        row = chunks.row(k)
        here, u = at((now, us), row)
        carry = plan.enter(shared, carry, here)
        v = product(cell.recurrent_input(carry, u), kernel, plan.count, cell.dtype)
        floats, rest = plan.u.split(u)
        carry, found = half.forward(carry, floats, v, weights, (rest, weights_rest, here))
        if keep:
            kept = put(kept, stacks.pack(found), row)
        return carry, (put(after, carry, offset + row), kept)

    def chunk(start, skip, loop):
        carry, scratch, results = loop
        base = chunks.base(start)
        if chunks.total % size:
            scratch = rows(results, base, size)
        us, here = cell.project(ready, rows(xs, base, size)), rows(now, base, size)
        one = functools.partial(step, us, here, 0 if keep else base)
        if not keep:  # outputs alone are written to their final place: 45 -> 31 ms
            carry, results = lax.fori_loop(skip, size, one, (carry, results))
            return carry, scratch, results
        carry, scratch = lax.fori_loop(skip, size, one, (carry, scratch))
        return carry, scratch, put(results, scratch, base, size)

    def blank(steps):
        after = jax.tree.map(lambda a: jnp.zeros((steps, *a.shape), a.dtype), carry)
        return after, stacks.blank(steps) if keep else []

    carry, _, (after, kept) = chunks.each(chunk, (carry, blank(size), blank(chunks.total)))
    return carry, after, kept
