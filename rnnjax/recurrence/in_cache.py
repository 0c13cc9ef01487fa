"""How a CPU runs cells whose step multiplies by no weights: in chunks that stay in its cache.

What such a cell computes of its inputs is many times as large as they are, and so are the numbers
that its gradient needs. All of it is quicker to compute again than to write and to read, and
quicker for many steps at once than step by step. Each constant was measured
(`benchmarks/linear.py`), at B, T, D, H = 16, 4096, 64, 128 and 1, 65536, 16, 64.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.base import Cell
from rnnjax.cells.linear import Linear
from rnnjax.recurrence.in_chunks import scan_in_chunks
from rnnjax.recurrence.jaxprs import count, used

PyTree = Any
# States of a chunk. The coefficients of matrices are outer products: far larger than what they
# are computed from, they should not leave the fastest cache.
CHUNK_BYTES, FEWEST_STEPS = 1 << 20, 16
MATRIX_BYTES, FEWEST_MATRICES = 1 << 16, 2
MATRIX = 4  # times as large as the outputs is a state that consists of matrices
SHORT = 8  # chunks have no advantage where nothing has to be computed again
# A product of a vector with a small matrix, and a function or two of it, take less time within a
# loop than what it takes to write and to read them; complex numbers slow small loops down.
COSTLY = {"dot_general", "exp", "expm1", "log", "log1p", "logistic", "tanh", "sqrt", "rsqrt"}
FEW = 2
LARGE_COMPLEX = 1 << 13


class Chunking(NamedTuple):
    """How to run a cell in chunks."""

    size: int | None  # steps of a chunk; None for no chunks, but a loop
    loop: bool  # without a gradient, step by step instead


def plan_chunks(cell: Cell, ready: PyTree, carry: PyTree, xs: PyTree) -> Chunking | None:
    """Return how to run a cell in chunks; None if they are of no use."""
    total, leaves = jax.tree.leaves(xs)[0].shape[0], jax.tree.leaves(carry)
    step = sum(c.size * c.dtype.itemsize for c in leaves)
    if not (isinstance(total, int) and isinstance(step, int)) or not total:  # or exported
        return None
    output = jax.eval_shape(cell.output, carry)
    matrix = step > MATRIX * math.prod(output.shape) * output.dtype.itemsize
    most, fewest = (MATRIX_BYTES, FEWEST_MATRICES) if matrix else (CHUNK_BYTES, FEWEST_STEPS)
    size = max(fewest, 1 << round(math.log2(max(1, most // max(1, step)))))
    if size >= total or not _steps_without_weights(cell, ready, carry, xs):
        return None
    if matrix and size < SHORT:
        return Chunking(None if _constant_factors(cell, ready, xs) else size, loop=True)
    if matrix:
        return Chunking(size, loop=False)
    projected = jax.make_jaxpr(cell.project)(ready, _first(xs))
    heavy = any(map(jnp.iscomplexobj, leaves)) and step < LARGE_COMPLEX
    return Chunking(size, loop=not heavy and count(projected.jaxpr, COSTLY) <= FEW)


def _constant_factors(cell, ready, xs):
    """Return whether a linear cell's factors do not depend on the input: little is then saved."""
    if not isinstance(cell, Linear):
        return False
    jaxpr = jax.make_jaxpr(lambda x: cell.coefficients(ready, x)[0])(_first(xs)).jaxpr
    return not any(used(jaxpr))


def _first(xs):
    return jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], xs))


def _steps_without_weights(cell, ready, carry, xs):
    """Return whether the parameters enter a step through `project` alone."""
    if isinstance(cell, Linear):
        return True
    now = jax.eval_shape(cell.project, ready, _first(xs))
    jaxpr = jax.make_jaxpr(cell.step)(ready, carry, now).jaxpr
    return not any(used(jaxpr)[: len(jax.tree.leaves(ready))])


def scan_in_cache(
    scan: Callable, loop: Callable, arguments: tuple, total: int, plan: Chunking, reverse: bool
) -> tuple[PyTree, PyTree]:
    """Run a scan; on a CPU in chunks, each computed again by the backward pass.

    Args:
        scan: `(ready, shared, carry, inputs)` to the carry after the last step, and arrays with the
            steps as leading axis.
        loop: the same, computing what a step takes of its input within the step.
        arguments: of both.
        total: T.
        plan: of `plan_chunks`.
        reverse: begin with the last step.
    """
    size = plan.size

    def in_chunks(ready, shared, carry, inputs):
        def one(carry, inputs):
            return scan(ready, shared, carry, inputs)

        return scan_in_chunks(one, carry, inputs, total, size or total, reverse)

    run = loop if size is None else in_chunks
    if plan.loop and size is not None:
        run = jax.custom_jvp(loop)
        run.defjvp(lambda primals, tangents: jax.jvp(in_chunks, primals, tangents))
    return lax.platform_dependent(*arguments, cpu=run, default=scan)
