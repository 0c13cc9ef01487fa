"""Shapes and types of the leaves of a tree, stored and expected."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def check_shapes(directory: Path, stored: PyTree, expected: PyTree) -> None:
    """Raise a ValueError that names the first leaf in which the two trees differ.

    Typed keys are compared by their key data, as they are stored.
    """
    found, wanted = _shapes(stored), _shapes(expected)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{directory} holds {name} as {found.get(name, 'nothing')}, "
                f"expected {wanted.get(name, 'nothing')}"
            )


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return shape, type and sharding of a leaf; the sharding is the first device by default."""
    sharding = getattr(leaf, "sharding", None) or first_device()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def first_device() -> jax.sharding.Sharding:
    """Return the sharding of arrays on this process's first device."""
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _shapes(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(_stored, tree))
    }


def _stored(leaf):
    """Return a leaf as it is stored: a typed key as its key data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf
