"""Members that stop at a metric that is not finite: their last good state is kept."""

import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnnjax import checkpoint
from rnnjax.training.loop import Chunk
from rnnjax.training.multihost import is_first_process

PyTree = Any


def file_name(value: Any) -> str:
    """Return a distinct file name for each value; characters that a path cannot hold are quoted."""
    return urllib.parse.quote(str(value), safe=" +")


def save_stopped(
    folder: Path, name: str, members: Sequence[Any], chunk: Chunk, *, others_continue: bool
) -> None:
    """Save the last good state of each member that stopped in a chunk to FOLDER/NAME-MEMBER.

    All processes of a program call it. If other members continue, the first process prints a line.
    """
    for stop in chunk.stops:
        target = folder / f"{name}-{file_name(members[stop.member])}"
        if not target.exists():
            state = jax.tree.map(lambda a, m=stop.member: np.asarray(a[m]), key_words(chunk.state))
            checkpoint.save(target, state)
    if others_continue and is_first_process():
        first, *more = chunk.stops
        also = f", {len(more)} more members stop by step {chunk.step}" if more else ""
        print(
            f"{name}: {first}{also}; the others continue. The last good states are in {folder}",
            file=sys.stderr,
        )


def key_words(tree: PyTree) -> PyTree:
    """Return a tree with its typed keys as arrays of integers."""
    typed = lambda a: jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda a: jax.random.key_data(a) if typed(a) else a, tree)
