"""Whether arrays of these sizes fit into the memory of this machine, before they are made."""

import math
import os
from typing import Any

import jax

from rnnjax.command_line import ArgumentError


def check_memory(what: str, shapes: Any, *, copies: int = 1) -> None:
    """Check that arrays fit into the memory of the machine.

    Args:
        what: they are, for the message: "the held-out sequences".
        shapes: a pytree of arrays or `jax.ShapeDtypeStruct`s.
        copies: how many of each there will be.

    Raises:
        ArgumentError: they need more memory than there is.
    """
    leaves = jax.tree.leaves(shapes)
    need = copies * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    have = memory()
    if need > have:
        raise ArgumentError(
            f"{what} would take {need / 1e9:.3g} GB, and there are {have / 1e9:.3g} GB of memory: "
            "give smaller sizes"
        )


def memory() -> int:
    """Return the bytes of memory of the first device; of a CPU, those of the machine."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return int(limit) if limit else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
