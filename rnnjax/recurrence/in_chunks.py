"""A scan over time, chunk after chunk."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any


def scan_in_chunks(
    scan: Callable, carry: PyTree, inputs: PyTree, total: int, size: int, reverse: bool
) -> tuple[PyTree, PyTree]:
    """Run `scan(carry, inputs)` on chunks of `size` steps, each recomputed when differentiated.

    The steps left over, less than a chunk, are not recomputed.

    Args:
        scan: returns the carry after some steps, and arrays with those steps as leading axis.
        inputs: arrays `[T, ...]`.
        total: T.
        reverse: begin with the last steps, those left over.
    """
    whole = total - total % size
    chunks = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), inputs)
    rest = jax.tree.map(lambda a: a[whole:], inputs)
    chunk = jax.checkpoint(scan, prevent_cse=False)  # inside a scan there is no CSE to prevent

    def scan_whole(carry):
        carry, ys = lax.scan(chunk, carry, chunks, reverse=reverse)
        return carry, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    if whole == total:
        return scan_whole(carry)
    if reverse:
        carry, late = scan(carry, rest)
        carry, early = scan_whole(carry)
    else:
        carry, early = scan_whole(carry)
        carry, late = scan(carry, rest)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
