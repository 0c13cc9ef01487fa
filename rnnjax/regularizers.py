"""Terms to add to a loss that act on how gradients pass through time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import need_gated, precise, pull_apart, run
from rnnjax.diagnostics.lyapunov import lyapunov_spectrum
from rnnjax.recurrence.carries import normalise, partition
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import check_like

PyTree = Any


@precise
def flossing(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    num: int,
    target: Any = 0.0,
    *,
    interval: int = 1,
    transient: int = 0,
    initial_carry: PyTree = None,
) -> Float[Array, ""]:
    """Return the squared distance of the leading finite-time Lyapunov exponents from their targets.

        L = mean over examples and i = 1 .. num of (lambda_i - target_i)^2

    lambda_i are the exponents of `diagnostics.lyapunov_spectrum` over the T steps of xs, in
    descending order. The gradient passes through the QR factorisations and the trajectory. At
    targets of zero these directions neither grow nor shrink, so gradients pass all T steps along
    them, and the product of Jacobians stays well-conditioned. Minimise it alone before training,
    now and then during training, or add it to a loss; the paper takes T = 55. The vectors start
    from a fixed random orthonormal frame. For s' = a s the loss is (ln |a| - target)^2.

    The backward pass keeps what every step computes for its `num` vectors: memory grows as
    T num N.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`; any cell.
        num: how many exponents.
        target: a number or `[num]`, descending, in nats per step.
        interval, transient: as for `lyapunov_spectrum`.

    Returns:
        The mean, infinite where one of these exponents is -inf (a Jacobian contracts a direction to
        zero): take fewer.

    Raises:
        ValueError: `target` is neither a number nor `[num]`, or as for `lyapunov_spectrum`.
        FloatingPointError: a carry is not finite (not checked under a transformation).

    Source: Engelken 2023, "Gradient flossing: improving gradient descent through dynamic control of
    Jacobians", arXiv:2312.17306; the mean over i as in its published code.
    """
    target = jnp.asarray(target)
    if target.shape not in ((), (num,)):
        raise ValueError(
            f"target must be a number or have shape [num] = [{num}], got shape {target.shape}"
        )
    options = {"interval": interval, "transient": transient, "initial_carry": initial_carry}
    exponents = lyapunov_spectrum(cell, params, xs, num, **options).exponents
    return jnp.mean((exponents - target) ** 2)


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
