"""How a CPU runs cells whose step multiplies by no weights: in chunks that stay in its cache.

What such a cell computes of its inputs is many times as large as they are, and so are the numbers
that its gradient needs. All of it is quicker to compute again than to write and to read.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from rnnjax.cells.base import Cell
from rnnjax.cells.linear import Linear
from rnnjax.recurrence.in_chunks import scan_in_chunks
from rnnjax.recurrence.jaxprs import used

PyTree = Any
CHUNK_BYTES = 1 << 16  # of the states of a chunk
MOST_STEPS = 128
FEWEST_STEPS = 8  # for larger states, chunks are of
STEPS_OF_LARGE_STATES = 4


def chunk_size(cell: Cell, ready: PyTree, carry: PyTree, xs: PyTree) -> int | None:
    """Return how many steps make a chunk; None if chunks are of no use."""
    total = jax.tree.leaves(xs)[0].shape[0]
    step = sum(c.size * c.dtype.itemsize for c in jax.tree.leaves(carry))
    if not (isinstance(total, int) and isinstance(step, int)):  # of an exported program
        return None
    size = min(MOST_STEPS, CHUNK_BYTES // max(1, step))
    size = STEPS_OF_LARGE_STATES if size < FEWEST_STEPS else size
    return size if size < total and _steps_without_weights(cell, ready, carry, xs) else None


def _steps_without_weights(cell, ready, carry, xs):
    """Return whether the parameters enter a step through `project` alone."""
    if isinstance(cell, Linear):
        return True
    now = jax.eval_shape(lambda: cell.project(ready, jax.tree.map(lambda x: x[0], xs)))
    jaxpr = jax.make_jaxpr(cell.step)(ready, carry, now).jaxpr
    return not any(used(jaxpr)[: len(jax.tree.leaves(ready))])


def scan_in_cache(
    scan: Callable, loop: Callable, arguments: tuple, total: int, size: int, reverse: bool
) -> tuple[PyTree, PyTree]:
    """Run a scan; on a CPU in chunks, each computed again by the backward pass.

    What is not differentiated comes from the loop.

    Args:
        scan: `(ready, shared, carry, inputs)` to the carry after the last step, and arrays with the
            steps as leading axis.
        loop: the same, computing what a step takes of its input within the step.
        arguments: of both.
        total: T.
        size: steps of a chunk.
        reverse: begin with the last step.
    """

    def in_chunks(ready, shared, carry, inputs):
        def one(carry, inputs):
            return scan(ready, shared, carry, inputs)

        return scan_in_chunks(one, carry, inputs, total, size, reverse)

    run = jax.custom_jvp(loop)
    run.defjvp(lambda primals, tangents: jax.jvp(in_chunks, primals, tangents))
    return lax.platform_dependent(*arguments, cpu=run, default=scan)
