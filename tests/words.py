"""Trees of arrays as bytes, to compare every bit."""

import jax
import jax.numpy as jnp
import numpy as np


def words(tree):
    """The leaves by name, as types, shapes and bytes; typed keys as their integers."""

    def plain(leaf):
        typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        leaf = np.asarray(jax.random.key_data(leaf) if typed else leaf)
        return leaf.dtype, leaf.shape, leaf.tobytes()

    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): plain(leaf) for path, leaf in found}
