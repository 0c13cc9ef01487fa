"""Is the cell a value, and do its parameters follow from a key?"""

import copy
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.testing.comparing import CellError, name, promise, same


def check_value(cell: Any, input_size: int, key: Array) -> None:
    """Check that the cell is a `Cell`, hashable, and equal to its copy."""
    del input_size, key
    if not isinstance(cell, Cell):
        raise CellError(f"{name(cell)} is not a subclass of rnnjax.Cell.")
    try:
        hash(cell)
    except TypeError as error:
        raise CellError(
            f"{name(cell)} is not hashable ({error}): make it a frozen dataclass of "
            "hyperparameters that holds no arrays."
        ) from None
    twin = copy.copy(cell)
    if twin != cell or hash(twin) != hash(cell):
        raise CellError(
            f"{name(cell)} and its copy are not equal with equal hashes, so every new instance "
            "would compile again: make it a frozen dataclass with hashable fields."
        )


def check_input_shape(cell: Any, input_size: int, key: Array) -> None:
    """Check that `input_shape` is a tuple of sizes, the features last."""
    del key
    with promise(f"{name(cell)}.input_shape must return the shape of one example's input"):
        shape = cell.input_shape(input_size)
    sizes = isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)
    if not sizes or shape[-1:] != (input_size,):
        raise CellError(
            f"{name(cell)}.input_shape({input_size}) must be a tuple of positive integers that "
            f"ends in {input_size}, got {shape!r}."
        )


def check_init(cell: Any, input_size: int, key: Array) -> None:
    """Check that `init` returns finite floating or complex arrays, the same for the same key."""
    with promise(f"{name(cell)}.init must return parameters for a key and {input_size} inputs"):
        params = cell.init(key, input_size)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        where = f"{name(cell)}.init{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, jax.Array) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise CellError(
                f"{where} is not a floating-point or complex array, so it cannot be trained."
            )
        if not bool(jnp.isfinite(leaf).all()):
            raise CellError(f"{where} holds values that are not finite.")
    problem = f"{name(cell)}.init gives different parameters for the same key"
    same(params, cell.init(key, input_size), 0, problem)
