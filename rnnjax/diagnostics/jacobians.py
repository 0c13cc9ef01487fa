"""Jacobians of one step, and the singular values of their products over many."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, check_size
from rnnjax.diagnostics import products
from rnnjax.diagnostics.linear import linearise, precise, run
from rnnjax.recurrence.carries import flatten, partition, unflatten
from rnnjax.recurrence.options import batch_shape, checked_lags

PyTree = Any


class SingularValues(NamedTuple):
    """What `jacobian_singular_values` returns, entry k of each about the k-th of the lags."""

    log_values: Any  # [K, *batch, num], natural logs, descending
    log_condition: Any  # [K, *batch], ln of the first over the last of them


@precise
def jacobians(
    cell: Cell, params: PyTree, xs: PyTree, initial_carry: PyTree = None
) -> Float[Array, "T *batch N N"]:
    """Return J_t = d s_{t+1} / d s_t for every step, each example by itself.

    The N floating entries of the carry lie in the order of its leaves: for an LSTM first c, then
    h. All T matrices are kept, so this is for small states, and an oracle for the rest.

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

    Products are kept as Q R with Q orthonormal and the rows of R scaled apart, so that values hold
    where the product itself would under- or overflow, and the small ones beside the large. With
    `num=None` all N are found by two sweeps, backward and forward. With `num` the leading ones are,
    by block iteration on num + `oversampling` vectors, J^T J V, V orthonormalised on the way: no
    N x N matrix is made. Values between which there is no gap converge slowly, short lags (which
    cost little) most of all.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        lags: integers in 1..T.
        num: how many of the N singular values; None means all.
        interval: steps between two factorisations. Within them the vectors must not become parallel
            to the accuracy of the type: None means 1 for all values and 4 for the leading ones.
        oversampling: vectors beyond `num`, for faster convergence.
        tolerance: iterate until no logarithm changes by more.
        max_iterations: or this often.

    Raises:
        ValueError: a lag is not in 1..T, `num` is not in 1..N, or a shape does not fit.
        FloatingPointError: a carry is not finite.

    Source: Saad 2011, "Numerical methods for large eigenvalue problems", section 5.2 (subspace
    iteration); Oliveira & Stewart 2000, "Exponentials of products of matrices" (log space).
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    lags = checked_lags(lags, total, "T")
    size = carry_size(cell, batch, initial_carry)
    if num is not None and not 1 <= num <= size:
        raise ValueError(f"num must lie in 1..N = 1..{size}, got {num}")
    for name, value in (("interval", interval), ("max_iterations", max_iterations)):
        if value is not None:
            check_size(name, value)
    width = size if num is None else min(size, num + oversampling)
    interval = interval or (1 if width == size else 4)
    trajectory = run(cell, params, xs, initial_carry)
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
    return SingularValues(logs, logs[..., 0] - logs[..., -1])


def carry_size(cell: Cell, batch: tuple[int, ...], carry: PyTree = None) -> int:
    """Return N, the number of floating entries in one example's carry."""
    shapes = jax.eval_shape(lambda: cell.initial_carry(batch)) if carry is None else carry
    floats = partition(shapes)[0]
    return sum(int(np.prod(np.shape(leaf)[len(batch) :])) for leaf in floats)


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
        """Apply J or J^T of the steps first, first + way, ... before last."""

        def one(i, leaves):
            t = first + way * i
            step = jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, t, keepdims=False), steps)
            return jax.vmap(linearise(cell, ready, step)[which])(leaves)

        return lax.fori_loop(0, way * (last - first), one, leaves)

    def factored(leaves):
        q, r = products.factorise(flatten(leaves, 1 + batch_ndim))
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
            return unflatten(products.basis(flat), floats, batch_ndim)

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
    vectors = unflatten(products.orthonormalise(start)[0], floats, batch_ndim)
    logs = jnp.full((*flat.shape[:-1], num), jnp.inf, flat.dtype)
    state = vectors, logs, jnp.asarray(jnp.inf, flat.dtype), 0
    if width == flat.shape[-1]:
        return iterate(state)[1]  # nothing to converge: the vectors span everything
    return lax.while_loop(unfinished, iterate, state)[1]
