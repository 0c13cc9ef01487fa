"""Jacobians of one step, and the singular values of their products over many."""

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, check_size
from rnnjax.diagnostics import factorisation, products
from rnnjax.diagnostics.linear import in_real_coordinates, linearise, precise, run
from rnnjax.recurrence.carries import flatten, partition, real_sizes, unflatten
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import checked_lags

PyTree = Any


class SingularValues(NamedTuple):
    """What `jacobian_singular_values` returns, entry k of each about the k-th of the lags."""

    log_values: Any  # [K, *batch, num], natural logs, descending
    log_condition: Any  # [K, *batch], ln of the first over the last of them


def log_spectrum_statistics(log_values: Any) -> dict[str, Any]:
    """Return logs of the largest singular value, the condition number and the root mean square.

    Args:
        log_values: natural logs, descending, all N of them along the last axis.

    Returns:
        `leading`, ln sigma_1; `condition`, ln sigma_1 / sigma_N; and `root_mean_square`, half the
        ln of the mean of sigma_i^2.
    """
    power = np.logaddexp.reduce(2 * log_values, -1) - math.log(log_values.shape[-1])
    return {
        "leading": log_values[..., 0],
        "condition": _log_condition(log_values, np),
        "root_mean_square": power / 2,
    }


@precise
def jacobians(
    cell: Cell, params: PyTree, xs: PyTree, initial_carry: PyTree = None
) -> Float[Array, "T *batch N N"]:
    """Return J_t = d s_{t+1} / d s_t for every step, each example by itself.

    The N entries of the carry follow the order of its leaves: for an LSTM first c, then h. Integer
    leaves have no derivative and are left out. A complex entry counts as two real dimensions, its
    real and its imaginary part, so J is real. All T matrices are kept, so this is for small
    states, and an oracle for the other diagnostics.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.

    Raises:
        ValueError: a shape does not fit, as for `unroll`.
        FloatingPointError: a carry is not finite.
    """
    ndim = len(batch_shape(cell, xs))
    trajectory = run(cell, params, xs, initial_carry)
    return _jacobians(cell, ndim, trajectory.ready, trajectory.steps)


@precise
def jacobian_singular_values(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    lags: Iterable[int],
    num: int | None = None,
    *,
    initial_carry: PyTree = None,
    interval: int | None = None,
    oversampling: int = 4,
    tolerance: float = 1e-3,
    max_iterations: int = 50,
) -> SingularValues:
    """Return ln of the singular values of d s_T / d s_{T-k} at each lag k, and condition numbers.

    N counts real dimensions: each complex entry of the carry counts twice. Products are kept as
    Q R, Q orthonormal and the rows of R scaled separately. So values are right where the product
    itself would underflow or overflow, the small ones as well as the large. With `num=None` two
    sweeps, backward and forward, find all N. With `num` a block iteration J^T J V on
    num + `oversampling` vectors finds the leading ones, without an N x N matrix. It converges
    slowly where neighbouring values lie close together, above all at short lags (which cost
    little).

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        lags: integers in 1..T.
        num: how many of the N singular values; None means all.
        interval: steps between two factorisations, so few that the vectors do not become parallel
            to within rounding. None means 1 for all values and 4 for the leading ones.
        oversampling: vectors beyond `num`, for faster convergence.
        tolerance: iterate until no logarithm changes by more.
        max_iterations: the largest number of iterations.

    Raises:
        ValueError: a lag is not in 1..T, `num` is not in 1..N, or a shape does not fit.
        FloatingPointError: a carry is not finite.

    Source: Saad 2011, "Numerical methods for large eigenvalue problems", section 5.2 (subspace
    iteration); Oliveira & Stewart 2000, "Exponentials of products of matrices" (log space).
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    lags = checked_lags(lags, total, "T")
    for name, value in (("interval", interval), ("max_iterations", max_iterations)):
        if value is not None:
            check_size(name, value)
    trajectory = run(cell, params, xs, initial_carry)
    size = carry_size(trajectory.entering, len(batch))
    if num is not None and not 1 <= num <= size:
        raise ValueError(f"num must lie in 1..N = 1..{size}, got {num}")
    width = size if num is None else min(size, num + oversampling)
    interval = interval or (1 if width == size else 4)
    found = [
        _singular_values(
            cell,
            len(batch),
            width,
            num or size,
            interval,
            tolerance,
            max_iterations,
            trajectory.ready,
            trajectory.steps,
            k,
        )
        for k in lags
    ]
    logs = jnp.stack(found) if found else jnp.zeros((0, *batch, num or size))
    return SingularValues(logs, _log_condition(logs, jnp))


def _log_condition(logs, xp):
    """Return ln of the first over the last value, infinite where the last is zero."""
    first, last = logs[..., 0], logs[..., -1]
    singular = last == -xp.inf
    return xp.where(singular, xp.inf, first - xp.where(singular, 0, last))


def carry_size(carries: PyTree, batch_ndim: int) -> int:
    """Return N, the real dimensions of one example's carry, from carries `[T, *batch, ...]`."""
    return sum(real_sizes(partition(carries)[0], 1 + batch_ndim))


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim"))
def _jacobians(cell, batch_ndim, ready, steps):
    def one(step):
        floats = partition(step[0])[0]
        flat = flatten(floats, batch_ndim)
        size = flat.shape[-1]
        basis = jnp.eye(size, dtype=flat.dtype).reshape(size, *(1 for _ in flat.shape[:-1]), size)
        basis = jnp.broadcast_to(basis, (size, *flat.shape))
        push = jax.vmap(linearise(cell, ready, step)[0])
        return jnp.moveaxis(
            flatten(push(unflatten(basis, floats, batch_ndim)), 1 + batch_ndim), 0, -1
        )

    return lax.map(one, steps)


@functools.partial(
    jax.jit,
    static_argnames=("cell", "batch_ndim", "width", "num", "interval", "max_iterations"),
)
def _singular_values(
    cell, batch_ndim, width, num, interval, tolerance, max_iterations, ready, steps, lag
):
    floats = [leaf[0] for leaf in partition(steps[0])[0]]
    total = jax.tree.leaves(steps)[0].shape[0]
    flat = flatten(floats, batch_ndim)
    rounds = -(-lag // interval)

    def move(which, leaves, first, last, way):
        """Apply J (`which` = 0) or J^T (1) of the steps first, first + way, ... before last."""

        def one(i, leaves):
            t = first + way * i
            step = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, t, keepdims=False), steps)
            push, pull = linearise(cell, ready, step)
            return jax.vmap((push, in_real_coordinates(pull))[which])(leaves)

        return lax.fori_loop(0, way * (last - first), one, leaves)

    def factored(leaves):
        q, r = factorisation.factorise(flatten(leaves, 1 + batch_ndim))
        return unflatten(q, floats, batch_ndim), r

    def forward(vectors):
        def one(i, state):
            leaves, graded = state
            first = total - lag + i * interval
            leaves, r = factored(move(0, leaves, first, jnp.minimum(first + interval, total), 1))
            return leaves, products.multiply(r, graded)

        start = vectors, products.identity(flat.shape[:-1], width, flat.dtype)
        return lax.fori_loop(0, rounds, one, start)

    def backward(vectors):
        def one(i, leaves):
            first = total - 1 - i * interval
            last = jnp.maximum(first - interval, total - lag - 1)
            flat = flatten(move(1, leaves, first, last, -1), 1 + batch_ndim)
            return unflatten(factorisation.basis(flat), floats, batch_ndim)

        return lax.fori_loop(0, rounds, one, vectors)

    def iterate(state):
        vectors, before, _, number = state
        vectors, graded = forward(backward(vectors))
        logs = products.log_singular_values(graded)[..., :num]
        change = jnp.where(logs == before, 0, jnp.abs(logs - before))  # -inf stays -inf
        return vectors, logs, jnp.max(change, initial=0), number + 1

    def unfinished(state):
        *_, change, number = state
        return ~(change <= tolerance) & (number < max_iterations)

    start = jax.random.normal(jax.random.key(0), (width, *flat.shape), flat.dtype)
    vectors = unflatten(factorisation.orthonormalise(start)[0], floats, batch_ndim)
    logs = jnp.full((*flat.shape[:-1], num), jnp.inf, flat.dtype)
    state = vectors, logs, jnp.asarray(jnp.inf, flat.dtype), 0
    if width == flat.shape[-1]:
        return iterate(state)[1]  # the vectors span everything: one iteration is exact
    return lax.while_loop(unfinished, iterate, state)[1]
