"""How fast the vectors of a QR iteration grow along a trajectory: the basis of Lyapunov exponents.

    Q_{t+1} R_{t+1} = J_t Q_t,    ln R_ii is the growth of vector i in step t

The vectors start from a fixed random orthonormal frame.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.cells.linear import Linear
from rnnjax.diagnostics import factorisation
from rnnjax.diagnostics.jacobians import carry_size
from rnnjax.diagnostics.linear import Trajectory, linearise
from rnnjax.recurrence.carries import flatten, partition, unflatten

PyTree = Any


def checked_num(num: int | None, trajectory: Trajectory, batch_ndim: int) -> int:
    """Return `num`, or N for None.

    Raises:
        ValueError: `num` is not in 1..N.
    """
    size = carry_size(trajectory.entering, batch_ndim)
    if num is not None and not 1 <= num <= size:
        raise ValueError(
            f"num must lie in 1..N = 1..{size} (the carry's real dimensions), got {num}"
        )
    return num or size


def what_grows(cell: Cell, trajectory: Trajectory) -> PyTree:
    """Return what `log_growth` takes: the steps, or the leaves and factors of a `Linear` cell."""
    if isinstance(cell, Linear):
        factors = partition(trajectory.inputs[0], trajectory.entering)[0]
        return partition(trajectory.entering)[0], factors
    return trajectory.ready, trajectory.steps


def log_growth(
    cell: Cell, batch_ndim: int, num: int, interval: int, skipped: int, given: PyTree
) -> Array:
    """Return ln R_ii of each interval, `[intervals, *batch, num]`; the last one may be shorter.

    The vectors of a `Linear` cell are the axes of the state, in descending order of their growth
    after the first `skipped` intervals, and nothing is factorised.
    """
    if isinstance(cell, Linear):
        leaves, factors = given
        return _of_axes(leaves, factors, batch_ndim, num, interval, skipped)
    ready, steps = given
    return _of_vectors(cell, batch_ndim, num, interval, ready, steps)


def first_frame(num: int, like: list[Array], batch_ndim: int) -> list[Array]:
    """Return the first vectors, leaves `[num, *batch, ...]`: random, orthonormal, the same ones."""
    flat = flatten(like, batch_ndim)
    start = jax.random.normal(jax.random.key(0), (num, *flat.shape), flat.dtype)
    return unflatten(factorisation.orthonormalise(start)[0], like, batch_ndim)


def push(cell: Cell, ready: PyTree, vectors: list[Array], step: PyTree) -> list[Array]:
    """Return J times each of the vectors, leaves `[num, *batch, ...]`."""
    return jax.vmap(linearise(cell, ready, step)[0])(vectors)


def _of_vectors(cell, batch_ndim, num, interval, ready, steps):
    floats = [leaf[0] for leaf in partition(steps[0])[0]]
    total = jax.tree.leaves(steps)[0].shape[0]

    def factor(vectors, chunk):
        vectors, _ = lax.scan(lambda v, step: (push(cell, ready, v, step), None), vectors, chunk)
        q, growth = factorisation.orthonormalise(flatten(vectors, 1 + batch_ndim))
        return unflatten(q, floats, batch_ndim), jnp.log(growth)

    whole = total - total % interval
    chunks = jax.tree.map(
        lambda a: a[:whole].reshape(whole // interval, interval, *a.shape[1:]), steps
    )
    vectors, every = lax.scan(factor, first_frame(num, floats, batch_ndim), chunks)
    if whole < total:  # the remaining steps, fewer than an interval
        _, last = factor(vectors, jax.tree.map(lambda a: a[whole:], steps))
        every = jnp.concatenate([every, last[None]])
    return every


def _of_axes(leaves, factors, batch_ndim, num, interval, skipped):
    """Return the growth of the axes of s' = a s + b, of leaves s and factors a `[T, *batch, ...]`.

    A complex entry has two axes.
    """
    moduli = []
    for s, a in zip(leaves, factors, strict=True):
        modulus = jnp.abs(a).astype(jnp.finfo(s.dtype).dtype)
        moduli.append(lax.complex(modulus, modulus) if jnp.iscomplexobj(s) else modulus)
    flat = flatten(moduli, 1 + batch_ndim)
    alive = flat > 0  # at zero the logarithm has no slope
    logs = jnp.where(alive, jnp.log(jnp.where(alive, flat, 1)), -jnp.inf)
    total = logs.shape[0]
    whole = total - total % interval
    chunks = logs[:whole].reshape(whole // interval, interval, *logs.shape[1:])
    every = jnp.sum(chunks, axis=1)
    if whole < total:
        every = jnp.concatenate([every, jnp.sum(logs[whole:], axis=0, keepdims=True)])
    order = jnp.argsort(-jnp.sum(every[skipped:], axis=0), axis=-1)[..., :num]
    return jnp.take_along_axis(every, order[None], axis=-1)
