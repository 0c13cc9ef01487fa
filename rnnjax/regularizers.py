"""Terms to add to a loss that act on how gradients pass through time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import need_gated, pull_apart, run
from rnnjax.recurrence.carries import normalise, partition
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import check_like

PyTree = Any


def omega(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    adjoints: PyTree,
    initial_carry: PyTree = None,
    *,
    exponent: int = 1,
) -> Float[Array, ""]:
    """Return Pascanu's regulariser, which is zero if no step changes the norm of the gradient.

        Omega = mean over examples of sum over t of (ratio_t^exponent - 1)^2,
        ratio_t = ||J_t^T a_{t+1}|| / ||a_{t+1}||,    t = 0 .. T-2

    J_t depends on the parameters through the recurrent kernel U alone: carries, slopes and the
    adjoints a are constants, as in the paper, so its gradient is one matmul over all steps. It is
    zero for a linear network with orthogonal U; for U = c I each term is (c^exponent - 1)^2. Steps
    that no gradient reaches contribute zero. Where the cell has a `prepare`, U is the effective
    kernel, and the gradient passes back through `prepare`.

    The state is the carry, as everywhere in this library. The paper uses the pre-activation, whose
    slopes come one step later. For an LSTM the whole of (c, h) counts.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        adjoints: dL/ds_t, leaves `[T, *batch, ...]`: from `diagnostics.adjoints`, or the gradient
            with respect to `unroll`'s `perturbations` in a loss of your own.
        exponent: 1 as in the paper's text, 2 (squared norms) as in its code.

    Raises:
        TypeError: the cell is not gated.
        ValueError: a shape does not fit, or `exponent` is neither 1 nor 2.

    Source: Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural
    networks", equation 9.
    """
    need_gated(cell, "omega")
    if exponent not in (1, 2):
        raise ValueError(f"exponent must be 1 or 2, got {exponent!r}")
    ndim, trajectory = (
        len(batch_shape(cell, xs)),
        run(cell, lax.stop_gradient(params), xs, initial_carry),
    )
    check_like(adjoints, trajectory.entering, "adjoints")
    steps = jax.tree.map(lambda a: a[:-1], trajectory.steps)
    later = [a[1:] for a in partition(adjoints, like=trajectory.entering)[0]]
    return _omega(cell, ndim, exponent, params, lax.stop_gradient((steps, later)))


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim", "exponent"))
def _omega(cell, batch_ndim, exponent, params, constants):
    steps, later = constants
    ndim = batch_ndim + 1  # time is one more batch axis
    unit, length = normalise(later, ndim)
    ready = cell.prepare(params)
    kernel = cell.recurrent_kernel(ready)
    direct, recurrent = pull_apart(cell, lax.stop_gradient(ready), steps, unit, kernel)
    earlier = [a + b for a, b in zip(direct, recurrent, strict=True)]
    square = sum(jnp.sum((v * v.conj()).real, tuple(range(ndim, v.ndim))) for v in earlier)
    reached = length > 0
    ratio = square
    if exponent == 1:
        alive = square > 0  # the root has no slope at zero
        ratio = jnp.where(alive, jnp.sqrt(jnp.where(alive, square, 1)), 0)
    terms = jnp.where(reached, (ratio - 1) ** 2, 0)
    return jnp.mean(jnp.sum(terms, axis=0))
