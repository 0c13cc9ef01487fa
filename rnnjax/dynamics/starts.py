"""Starts of a search for fixed points: states that a network visits, with noise."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell, check_size
from rnnjax.dynamics.maps import flat_states
from rnnjax.recurrence.carries import partition

PyTree = Any


def visited_states(
    cell: Cell, carries: PyTree, key: Array, num: int, *, noise: float | int = 0.0
) -> PyTree:
    """Return `num` states drawn from those that a network visited, as starts for `fixed_points`.

        s + noise * xi,    xi ~ N(0, 1) for each entry

    Args:
        cell: the cell.
        carries: leaves `[T, *batch, ...]`, as `unroll(..., return_carries=True)` returns them.
            Every step of every example is as likely.
        key: a key.
        num: how many. A state may be drawn more than once.
        noise: standard deviation of the noise on floating leaves, in units of the state; of a
            complex entry, that of its real part and of its imaginary part.

    Returns:
        Carries with leaves `[num, ...]`.

    Raises:
        ValueError: `num` is not a positive integer, `noise` is negative, or a shape is not that of
            the cell's carries.
    """
    check_size("num", num)
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0, got {noise!r}")
    one = jax.eval_shape(lambda: cell.initial_carry(()))
    if jax.tree.structure(carries) != jax.tree.structure(one):
        raise ValueError(f"carries must be those of {type(cell).__name__}, {type(one).__name__}")
    choice, *keys = jax.random.split(key, 1 + len(jax.tree.leaves(one)))
    leading = [a.shape[: a.ndim - b.ndim] for a, b in _pairs(carries, one)]
    ends = [a.shape[a.ndim - b.ndim :] == b.shape for a, b in _pairs(carries, one)]
    if not all(ends) or len(set(leading)) != 1 or not leading[0]:
        shapes = [a.shape for a in jax.tree.leaves(carries)]
        raise ValueError(
            f"carries must have leaves [T, *batch, ...] of those of one carry, "
            f"{[b.shape for b in jax.tree.leaves(one)]}; got {shapes}"
        )
    total = math.prod(leading[0])
    if not total:
        raise ValueError(f"carries must hold at least one state, got leading axes {leading[0]}")
    places = jax.random.randint(choice, (num,), 0, total)
    drawn = jax.tree.map(lambda a, b: jnp.asarray(a).reshape(total, *b.shape)[places], carries, one)
    floats, merge = partition(drawn)
    return merge([a + noise * _normal(k, a) for a, k in zip(floats, keys, strict=False)])


def spread(carries: PyTree) -> float:
    """Return the root mean square distance of states from their mean, in units of the state.

    Args:
        carries: leaves `[T, B, ...]`, as `unroll(..., return_carries=True)` returns them.
    """
    states = flat_states(carries, 2)
    return float(jnp.sqrt(jnp.square(states - states.mean((0, 1))).sum(-1).mean()))


def _pairs(carries, one):
    return list(zip(jax.tree.leaves(carries), jax.tree.leaves(one), strict=True))


def _normal(key, like):
    """Return noise like an array, N(0, 1) in each real dimension."""
    drawn = jax.random.normal(key, like.shape, like.dtype)
    return drawn * 2**0.5 if jnp.iscomplexobj(like) else drawn
