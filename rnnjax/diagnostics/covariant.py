"""Covariant Lyapunov vectors: the directions that grow at each Lyapunov exponent."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from rnnjax.cells.base import Cell
from rnnjax.diagnostics import factorisation, growth
from rnnjax.diagnostics.linear import precise, run
from rnnjax.recurrence.carries import flatten, partition, unflatten
from rnnjax.recurrence.inputs import batch_shape

PyTree = Any


class CovariantVectors(NamedTuple):
    """What `covariant_lyapunov_vectors` returns, for K times, entry j about s_t, t = times[j]."""

    times: Any  # [K], the steps t
    vectors: Any  # [K, *batch, N, num], one unit vector per column
    log_growth: Any  # [K, *batch, num], ln of the factor by which step t makes each vector longer
    exponents: Any  # [*batch, num], nats per step, the means of these


@precise
def covariant_lyapunov_vectors(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    num: int | None = None,
    *,
    transient: int,
    backward_transient: int | None = None,
    initial_carry: PyTree = None,
) -> CovariantVectors:
    """Return the leading covariant Lyapunov vectors along one trajectory, each example by itself.

        J_t v_i(t) = e^{g_i(t)} v_i(t + 1),   ||v_i|| = 1,   lambda_i = mean over t of g_i(t)

    v_i(t) is a direction of the carry s_t that enters step t. Unlike the orthonormal vectors of
    `lyapunov_spectrum`, these are mapped into one another, grow at lambda_i forward and at
    -lambda_i backward, and need not be orthogonal; for constant J they are its eigenvectors. They
    come from a forward and a backward pass:

        Q_{t+1} R_t = J_t Q_t,   C_t = R_t^{-1} C_{t+1} / norms of columns,   V_t = Q_t C_t

    The order is that of Q: lambda_i descend, up to their errors. Where exponents are equal, as
    those of a complex pair, only the space that their vectors span is unique; the vectors are still
    mapped into one another. Coordinates are those of `diagnostics.jacobians`, so
    `jacobians(...)[t] @ vectors[j]` is J_t V_t: leaf after leaf, for an LSTM first c, then h, and
    complex entries as real and imaginary parts, so that they count twice.

    Memory: Q and R of all steps are kept, `[T, num, N]` and `[T, num, num]` for each example.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        num: how many vectors; None means all N.
        transient: number of first steps that are left out, while the carry approaches the attractor
            and Q its directions.
        backward_transient: number of last steps that are left out, while C approaches its
            directions on the way back; None means `transient`. Directions converge as
            exp(-(lambda_i - lambda_{i+1}) steps).

    Raises:
        ValueError: `num` is not in 1..N, the transients do not leave a step, a shape does not fit,
            or a Jacobian contracts one of the directions to zero, which then has no vector (NaN
            under a transformation).
        FloatingPointError: a carry is not finite.

    Source: Ginelli et al. 2007, "Characterizing dynamics with covariant Lyapunov vectors",
    Phys. Rev. Lett. 99, 130601.
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    left = transient if backward_transient is None else backward_transient
    for name, steps in (("transient", transient), ("backward_transient", left)):
        if steps < 0 or transient + left >= total:
            raise ValueError(
                f"{name} must be at least 0, and the transients, {transient} and {left} steps, "
                f"must leave some of the T = {total}; got {steps}"
            )
    trajectory = run(cell, params, xs, initial_carry)
    num = growth.checked_num(num, trajectory, len(batch))
    q, r = _forward(cell, len(batch), num, trajectory.ready, trajectory.steps)
    if not isinstance(r, Tracer):
        _check_regular(np.asarray(jnp.diagonal(r, axis1=-2, axis2=-1)))
    found = _backward(transient, total - left, q, r)
    return CovariantVectors(jnp.arange(transient, total - left), *found)


def _check_regular(growths):
    """Raise a ValueError that names the first direction that a step contracts to zero."""
    singular = ~(growths > 0)
    if not singular.any():
        return
    count = int(np.argmax(singular.any(tuple(range(growths.ndim - 1)))))
    step = np.argwhere(singular[..., count])[0][0]
    remedy = f"num={count} leaves it out" if count else "there are no others"
    raise ValueError(
        f"the Jacobian of step {step} contracts direction {count} to zero, exactly or up to "
        f"rounding, and it has no covariant vector; {remedy}"
    )


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim", "num"))
def _forward(cell, batch_ndim, num, ready, steps):
    """Return Q_t `[T, num, *batch, N]` and R_t `[T, *batch, num, num]`, J_t Q_t = Q_{t+1} R_t."""
    floats = [leaf[0] for leaf in partition(steps[0])[0]]

    def one(vectors, step):
        pushed = growth.push(cell, ready, vectors, step)
        q, r = factorisation.factorise(flatten(pushed, 1 + batch_ndim))
        return unflatten(q, floats, batch_ndim), (flatten(vectors, 1 + batch_ndim), r)

    return lax.scan(one, growth.first_frame(num, floats, batch_ndim), steps)[1]


@functools.partial(jax.jit, static_argnames=("first", "last"))
def _backward(first, last, q, r):
    """Return vectors, growth and exponents of the steps `first` <= t < `last`."""

    def back(c, r):
        c = factorisation.back_substitution(r, c)
        length = factorisation.length_of(jnp.swapaxes(c, -1, -2))
        c = c / length[..., None, :]
        return c, (c, -jnp.log(length))

    # Each column of the identity has a component along every vector of the span it stands for.
    c = jnp.broadcast_to(jnp.eye(r.shape[-1], dtype=r.dtype), r.shape[1:])
    c, _ = lax.scan(lambda c, r: (back(c, r)[0], None), c, r[last:], reverse=True)
    _, (c, logs) = lax.scan(back, c, r[first:last], reverse=True)
    vectors = jnp.moveaxis(q[first:last], 1, -1) @ c
    return vectors, logs, jnp.mean(logs, axis=0)
