"""A cell under constant input, as a map of real vectors: F^n(s) and its Jacobian."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import linearise, recurrent_products
from rnnjax.recurrence.carries import flatten, partition, real_sizes, unflatten
from rnnjax.recurrence.inputs import batch_shape, check_params
from rnnjax.recurrence.options import check_like, settle_dtypes

PyTree = Any


class Map(NamedTuple):
    """What F needs beside the cell; a state is the flat vector of the floating leaves of `carry`.

    Other leaves of the carry, such as a counter, stay as they are in `carry`.
    """

    ready: Any  # the effective parameters, `cell.prepare(params)`
    u: Any  # the projected input of one step
    carry: Any  # one carry, in the types that it has at every step


def make_map(cell: Cell, params: PyTree, x: PyTree, carry: PyTree) -> Map:
    """Return the map at the constant input x `[D]`.

    Raises:
        ValueError: x is not the input of one step, or x or a parameter does not fit.
    """
    x = jax.tree.map(jnp.asarray, x)
    xs = jax.tree.map(lambda a: a[None], x)
    batch = batch_shape(cell, xs)
    if batch:
        shapes = ", ".join(str(a.shape) for a in jax.tree.leaves(x))
        raise ValueError(
            f"x must be the input of one step, [D], held constant; got shape {shapes}: of inputs "
            "that change along time take one step, such as xs[-1]"
        )
    check_params(cell, params, xs)
    ready = cell.prepare(params)
    carry = settle_dtypes(cell, ready, xs, jax.tree.map(jnp.asarray, carry))
    u = jax.tree.map(lambda a: a[0], cell.project(ready, xs))
    return Map(ready, u, carry)


def checked_starts(cell: Cell, starts: PyTree, name: str = "starts") -> PyTree:
    """Return carries as arrays with leaves `[K, ...]`.

    Raises:
        ValueError: the structure or a shape is not that of K carries of the cell.
        FloatingPointError: a start is not finite.
    """
    leaves = [jnp.shape(leaf) for leaf in jax.tree.leaves(starts)]
    count = leaves[0][0] if leaves and leaves[0] else 1
    check_like(starts, jax.eval_shape(lambda: cell.initial_carry((count,))), name)
    starts = jax.tree.map(jnp.asarray, starts)
    if not count:
        raise ValueError(f"{name} must hold at least one carry, leaves [K, ...], got K = 0")
    floats = partition(starts)[0]
    if not any(isinstance(leaf, Tracer) for leaf in floats):
        finite = [np.isfinite(leaf).reshape(count, -1).all(-1) for leaf in floats]
        bad = np.flatnonzero(~np.all(finite, axis=0))
        if bad.size:
            raise FloatingPointError(
                f"{name} must be finite, but {bad.size} of {count} are not, the first at index "
                f"{bad[0]}"
            )
    return starts


def on_one_device(tree: PyTree) -> PyTree:
    """Return arrays that lie on several devices on the first of them.

    Many small systems of equations are solved by LAPACK, which can deadlock where two CPU devices
    call it at once: their threads wait for each other.
    """

    def moved(leaf):
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        devices = sorted(leaf.devices(), key=lambda device: device.id)
        return jax.device_put(leaf, devices[0]) if len(devices) > 1 else leaf

    return jax.tree.map(moved, tree)


def one_of(carries: PyTree) -> PyTree:
    """Return the first of carries `[K, ...]`."""
    return jax.tree.map(lambda a: a[0], carries)


def flat_states(carries: PyTree, batch_ndim: int = 1) -> Array:
    """Return the floating leaves of carries `[*batch, ...]` as real vectors `[*batch, N]`."""
    return flatten(partition(carries)[0], batch_ndim)


def size(carry: PyTree) -> int:
    """Return N, the real dimensions of one carry."""
    return sum(real_sizes(partition(carry)[0], 0))


def as_carry(given: Map, flat: Array) -> PyTree:
    """Undo `flat_states`: vectors `[*batch, N]` as carries, other leaves those of `given.carry`."""
    floats, merge = partition(given.carry)
    rest = jax.tree.map(lambda a: jnp.broadcast_to(a, (*flat.shape[:-1], *a.shape)), given.carry)
    return merge(unflatten(flat, floats, 0), rest)


def advance(cell: Cell, given: Map, flat: Array) -> Array:
    """Return F(s) for one state `[N]`."""
    return flat_states(cell.step(given.ready, as_carry(given, flat), given.u), 0)


def advance_with_jacobian(
    cell: Cell, given: Map, flat: Array, period: int = 1
) -> tuple[Array, Array]:
    """Return F^n(s) and its Jacobian `[N, N]` for one state `[N]`, n = `period`."""
    floats = partition(given.carry)[0]

    def once(state, _):
        flat, columns = state
        carry = as_carry(given, flat)
        step = carry, given.u, recurrent_products(cell, given.ready, carry, given.u)
        pushed = jax.vmap(linearise(cell, given.ready, step)[0])(unflatten(columns, floats, 0))
        after = flat_states(cell.step(given.ready, carry, given.u), 0)
        return (after, flatten(pushed, 1)), None

    start = flat, jnp.eye(flat.shape[-1], dtype=flat.dtype)
    if period == 1:
        (flat, columns), _ = once(start, None)
    else:
        (flat, columns), _ = lax.scan(once, start, length=period)
    return flat, columns.T
