"""One tree of arrays in a directory."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnnjax.checkpoint.file_sums import NAME, file_sums, read_sums, write_sums
from rnnjax.checkpoint.orbax_errors import quiet, read_metadata, reading, saving
from rnnjax.checkpoint.shapes import check_shapes, first_device

PyTree = Any


def save(directory: Path, tree: PyTree) -> None:
    """Write a tree of arrays to a new directory; it is complete or absent.

    In a program of several processes all call it, with the same tree.

    Raises:
        FileExistsError: the directory exists.
        OSError: it cannot be written; the message says why.
    """
    from orbax.checkpoint import v1 as ocp

    if directory.exists():
        raise FileExistsError(f"{directory} exists already")
    tree = jax.tree.map(np.asarray, tree)
    with saving(directory), quiet():
        ocp.save_checkpointables(str(directory.absolute()), {"tree": tree})
        if jax.process_index() == 0:
            write_sums(directory / NAME, directory)


def load(directory: Path, like: PyTree) -> PyTree:
    """Read a tree of arrays, onto the first device.

    Args:
        directory: written by `save`.
        like: a tree of arrays or `jax.ShapeDtypeStruct`s with the same structure, shapes and types.

    Raises:
        FileNotFoundError: there is no such directory, or it holds no checkpoint.
        ValueError: the tree has another structure, shape or type; the message says where.
        OSError: the files are damaged.
    """
    from orbax.checkpoint import v1 as ocp

    device = first_device()
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device), like)
    directory = directory.absolute()
    sums = read_sums(directory / NAME)
    if sums and sums != file_sums(directory):
        raise OSError(f"{directory} is damaged")
    check_shapes(directory, read_metadata(directory).metadata["tree"], like)
    with reading(directory):
        return ocp.load_checkpointables(str(directory), {"tree": like})["tree"]
