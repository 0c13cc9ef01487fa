"""A number that changes if the content of a tree of arrays changes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PyTree = Any


def digest(tree: PyTree) -> int:
    """Return a sum, modulo 2^32, that changes if a word of the tree changes or moves.

    It is a sum of integers, so it does not depend on how the tree is split over devices.
    """
    leaves = jax.tree.leaves(tree)
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
    """Return for each leaf the sum of its words, each mixed with its index (as in MurmurHash3)."""
    found = []
    for leaf in leaves:
        words = _words(leaf)
        index = jnp.uint32(0)
        for axis in range(words.ndim):
            index = index * np.uint32(words.shape[axis] | 1) + lax.broadcasted_iota(
                np.uint32, words.shape, axis
            )
        mixed = words + index * np.uint32(2654435761)
        for shift, factor in ((16, 2246822507), (13, 3266489909)):
            mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
        found.append(jnp.sum(mixed ^ (mixed >> 16), dtype=np.uint32))
    return found


def _words(leaf):
    """Return the bits of a leaf as unsigned integers of at most 32 bits."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == bool:
        leaf = leaf.astype(np.uint8)
    if jnp.issubdtype(leaf.dtype, np.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], -1)
    size = min(leaf.dtype.itemsize, 4)
    return lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * size}")).astype(np.uint32)
