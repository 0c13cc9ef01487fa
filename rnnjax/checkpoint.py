"""Arrays on disk. The only file that knows Orbax."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

PyTree = Any


def save(directory: Path, tree: PyTree) -> None:
    """Write a tree of arrays to a new directory: whole, or not there at all.

    Raises:
        FileExistsError: the directory is there already.
    """
    from orbax.checkpoint import v1 as ocp

    if directory.exists():
        raise FileExistsError(f"{directory} is there already")
    ocp.save_checkpointables(str(directory.absolute()), {"tree": jax.tree.map(np.asarray, tree)})


def load(directory: Path, like: PyTree) -> PyTree:
    """Read a tree of arrays, onto the first device.

    Args:
        directory: what `save` has written.
        like: a tree of the same structure, shapes and types, of arrays or `jax.ShapeDtypeStruct`s.

    Raises:
        FileNotFoundError: there is no such directory, or it is no checkpoint.
        ValueError: the tree is another one; the message says where they differ.
        OSError: the files are damaged.
    """
    from orbax.checkpoint import v1 as ocp

    directory = directory.absolute()
    try:
        with _quiet():
            stored = ocp.checkpointables_metadata(str(directory)).metadata["tree"]
    except Exception as error:  # Orbax raises all kinds, by what is missing
        raise FileNotFoundError(f"{directory} holds no checkpoint") from error
    if stored is None:
        raise OSError(f"{directory} is damaged")
    wanted, found = _shapes(like), _shapes(stored)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{directory} holds {name} as {found.get(name, 'nothing')}, "
                f"wanted is {wanted.get(name, 'nothing')}"
            )
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), like)
    try:
        with _quiet():
            return ocp.load_checkpointables(str(directory), {"tree": abstract})["tree"]
    except Exception as error:
        raise OSError(f"{directory} is damaged: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def _quiet():
    """Keep Orbax from explaining over many lines what is raised in one."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _shapes(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
