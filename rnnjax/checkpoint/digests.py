"""A number that changes if the content of a tree of arrays changes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PyTree = Any

SMALL = 2**20  # words


def digest(tree: PyTree) -> int:
    """Return a sum, modulo 2^32, that changes if a word of the tree changes or moves.

    It is a sum of integers, so it does not depend on how the tree is split over devices.
    """
    leaves = list(map(_array, jax.tree.leaves(tree)))
    if _on_the_host(leaves) and sum(leaf.nbytes for leaf in map(_plain, leaves)) <= 4 * SMALL:
        # Done at once, where a program for these shapes would first have to be compiled.
        sums = [int(_sum(_host_words(leaf), np)) for leaf in leaves]
        return functools.reduce(lambda total, found: (total * 31 + found) % 2**32, sums, 0)
    groups: dict[Any, list[int]] = {}  # the leaves on the same devices
    for index, leaf in enumerate(leaves):
        devices = leaf.sharding.device_set if isinstance(leaf, jax.Array) else ()
        groups.setdefault(frozenset(devices), []).append(index)
    sums = {}
    for indices in groups.values():
        sums |= zip(indices, map(int, _sums([leaves[i] for i in indices])), strict=True)
    return functools.reduce(lambda total, i: (total * 31 + sums[i]) % 2**32, sorted(sums), 0)


@jax.jit
def _sums(leaves):
    return [_sum(_words(leaf), jnp) for leaf in leaves]


def _sum(words, xp):
    """Return the sum of words, each mixed with its index (as in MurmurHash3), in JAX or NumPy."""
    index = xp.zeros((1,) * words.ndim, xp.uint32)
    for axis, size in enumerate(words.shape):
        along = xp.arange(size, dtype=xp.uint32)
        along = along.reshape([size if a == axis else 1 for a in range(words.ndim)])
        index = index * np.uint32(size | 1) + along
    mixed = words + index * np.uint32(2654435761)
    for shift, factor in ((16, 2246822507), (13, 3266489909)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return xp.sum(mixed ^ (mixed >> np.uint32(16)), dtype=xp.uint32)


def _words(leaf):
    """Return the bits of a leaf as unsigned integers of at most 32 bits."""
    leaf = _plain(leaf)
    if leaf.dtype == bool:
        leaf = leaf.astype(np.uint8)
    if jnp.issubdtype(leaf.dtype, np.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], -1)
    size = min(leaf.dtype.itemsize, 4)
    return lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * size}")).astype(np.uint32)


def _on_the_host(leaves):
    return all(
        not isinstance(leaf, jax.Array)
        or (leaf.is_fully_addressable and next(iter(leaf.devices())).platform == "cpu")
        for leaf in leaves
    )


def _array(leaf):
    """Return a leaf as an array of the type that JAX would give it."""
    if isinstance(leaf, jax.Array):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


def _plain(leaf):
    """Return a leaf with a typed key as its words."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _host_words(leaf):
    """Return the bits of a leaf as `_words` does, in NumPy; a scalar as an array of one."""
    leaf = np.ascontiguousarray(np.asarray(_plain(leaf)))  # 1-dimensional at least
    if leaf.dtype == bool:
        leaf = leaf.astype(np.uint8)
    if np.issubdtype(leaf.dtype, np.complexfloating):
        leaf = np.stack([np.real(leaf), np.imag(leaf)], -1)
    size = min(leaf.dtype.itemsize, 4)
    words = np.ascontiguousarray(leaf).view(f"uint{8 * size}")
    if size < leaf.dtype.itemsize:  # two words each, along an axis of their own
        words = words.reshape(*leaf.shape, -1)
    return words.astype(np.uint32)
