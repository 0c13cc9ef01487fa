"""Is the cell a value, and do its parameters follow from a key?"""

import copy

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells.base import Cell
from rnnjax.cells.fields import check_decorated
from rnnjax.testing.comparing import CellError, name, promise, same
from rnnjax.testing.problems import Problem


def check_value(problem: Problem) -> None:
    """Check that the cell is a `Cell`, hashable, and equal to its copy."""
    cell = problem.cell
    if not isinstance(cell, Cell):
        raise CellError(f"{name(cell)} is not a subclass of rnnjax.Cell.")
    try:
        hash(cell)
    except TypeError as error:
        raise CellError(
            f"{name(cell)} is not hashable ({error}): make it a frozen dataclass of "
            "hyperparameters that holds no arrays."
        ) from None
    with promise(f"{name(cell)} must be a frozen dataclass"):
        check_decorated(type(cell))
    twin = copy.copy(cell)
    if twin != cell or hash(twin) != hash(cell):
        raise CellError(
            f"{name(cell)} and its copy are not equal with equal hashes, so every new instance "
            "would compile again: make it a frozen dataclass with hashable fields."
        )


def check_input_shape(problem: Problem) -> None:
    """Check that `input_shape` is a tuple of sizes, the features last."""
    cell = problem.cell
    for wanted in jax.tree.leaves(problem.input_size):
        with promise(f"{name(cell)}.input_shape must return the shape of one example's input"):
            shape = cell.input_shape(wanted)
        sizes = isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)
        if not sizes or shape[-1:] != (wanted,):
            raise CellError(
                f"{name(cell)}.input_shape({wanted}) must be a tuple of positive integers that "
                f"ends in {wanted}, got {shape!r}."
            )


def check_init(problem: Problem) -> None:
    """Check that `init` returns finite floating or complex arrays, the same for the same key."""
    cell, input_size = problem.cell, problem.input_size
    with promise(
        f"{name(cell)}.init must return parameters for a key and inputs of size {input_size}"
    ):
        params = problem.params
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        where = f"{name(cell)}.init{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, jax.Array) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise CellError(
                f"{where} is not a floating-point or complex array, so it cannot be trained; make "
                "constants in prepare."
            )
        if not np.isfinite(np.asarray(leaf)).all():
            raise CellError(f"{where} holds values that are not finite.")
    broken = f"{name(cell)}.init gives different parameters for the same key"
    with jax.enable_x64(False):
        same(params, cell.init(problem.key, input_size), 0, broken)
