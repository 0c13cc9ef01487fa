"""Checks of the inputs of `unroll` and of the parameters that must fit them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells.base import Cell, Noisy, input_sizes
from rnnjax.cells.fields import check_decorated
from rnnjax.recurrence.options import described

PyTree = Any


def batch_shape(cell: Cell, xs: PyTree) -> tuple[int, ...]:
    """Return the batch dimensions of inputs `[T, *batch, D]`, after checking cell and inputs.

    Those of a cell that reads images are `[T, *batch, height, width, D]`: `cell.input_shape` says
    how many axes are not batch. The noise of `Noisy` inputs always has one.
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"cell must be an rnnjax.Cell, got {type(cell).__name__}")
    try:
        hash(cell)
    except TypeError as error:
        raise TypeError(
            f"cell {type(cell).__name__} is not hashable ({error}); a cell is a frozen dataclass "
            "of hyperparameters and holds no arrays"
        ) from None
    check_decorated(type(cell))
    whole, noises = xs, []
    while isinstance(xs, Noisy):
        noises, xs = [*noises, *jax.tree.leaves(xs.noise)], xs.x
    one = cell.input_shape(1)
    inputs = [jnp.shape(x) for x in jax.tree.leaves(xs)]
    shapes = [*inputs, *map(jnp.shape, noises)]
    ends = [len(shape) - len(one) for shape in inputs] + [len(jnp.shape(a)) - 1 for a in noises]
    if not inputs or min(ends) < 1 or any(shape[-len(one) : -1] != one[:-1] for shape in inputs):
        if _is_plain_sequence(whole) and inputs:
            raise _no_array(whole)
        wanted = ", ".join(["T", "*batch", *map(str, one[:-1]), "D"])
        least = "two" if len(one) == 1 else len(one) + 1
        raise ValueError(f"xs must have shape [{wanted}], at least {least} axes; got {shapes}")
    if len({shape[:end] for shape, end in zip(shapes, ends, strict=True)}) > 1:
        raise ValueError(f"the leaves of xs must agree on [T, *batch]; got shapes {shapes}")
    return shapes[0][1 : ends[0]]


def check_params(cell: Cell, params: PyTree, xs: PyTree) -> None:
    """Raise an error unless `params` have the structure and the shapes that `init` gives them.

    Otherwise parameters of another cell, or a bias of shape [1], could be broadcast into numbers.
    For inputs that are a tree, `init` is given the tree of their sizes. A cell may be used with
    parameters that its `init` does not draw: then nothing is checked.

    Raises:
        ValueError: the structure or a shape differs.
        TypeError: `xs` is a list of arrays, and the cell's `project` does not take one.
    """
    while isinstance(xs, Noisy):
        xs = xs.x
    sizes = input_sizes(xs)
    wanted = _initial_shapes(cell, sizes)
    if wanted is not None:
        _check_like_drawn(cell, params, xs, sizes, wanted)
    if _is_plain_sequence(xs):
        _check_sequence(cell, params, xs)


def _check_like_drawn(cell, params, xs, sizes, wanted):
    kind, found = type(cell).__name__, jax.tree.structure(params)
    if found != jax.tree.structure(wanted):
        hint = ""
        if isinstance(params, Mapping) and "params" in params:
            hint = "; of a layer's variables take layer.cell_params(variables['params'])"
        raise ValueError(
            f"params must be what {kind}.init returns, {described(wanted)}; got "
            f"{described(params)}{hint}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = [jnp.shape(leaf) for _, leaf in leaves]
    for (path, _), got, want in zip(leaves, shapes, _shapes(wanted), strict=True):
        if got == want:
            continue
        for size in {shape[0] for shape in shapes if shape and shape[0]}:
            if isinstance(sizes, int) and _shapes(_initial_shapes(cell, size)) == shapes:
                raise ValueError(
                    f"inputs must have {size} features, as the parameters have; got shape "
                    f"{xs.shape}"
                )
        raise ValueError(
            f"params{jax.tree_util.keystr(path)} must have shape {want}, as {kind}.init makes it "
            f"for {sizes} features; got {got}"
        )


def _initial_shapes(cell, sizes):
    """Return the shapes of the parameters that `init` draws; None if it cannot."""
    leaves, structure = jax.tree.flatten(sizes)
    return _drawn_shapes(cell, tuple(leaves), structure)


@functools.lru_cache(maxsize=256)
def _drawn_shapes(cell, sizes, structure):
    try:
        sizes = structure.unflatten(sizes)
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), sizes))
    except Exception:  # of an author's own cell, which may have no use for it
        return None


def _is_plain_sequence(xs):
    return type(xs) in (list, tuple)


def _check_sequence(cell, params, xs):
    """Raise a TypeError unless the cell's `project` takes a list or tuple of inputs."""

    def project(xs):
        return cell.project(cell.prepare(params), xs)

    try:
        projected = jax.tree.leaves(jax.eval_shape(project, jax.tree.map(jnp.asarray, xs)))
    except Exception:  # whatever an author's `project` makes of it
        raise _no_array(xs) from None
    leading = jax.tree.leaves(xs)[0].shape[:-1]
    if any(u.shape[: len(leading)] != leading for u in projected):
        raise _no_array(xs)


def _no_array(xs):
    kind, first = type(xs).__name__, xs[0]
    what, remedy = f"{type(first).__name__}s", "jnp.asarray(xs)"
    if isinstance(first, jax.Array | np.ndarray):
        what, remedy = "arrays", "jnp.stack(xs)"
    return TypeError(
        f"xs must be one array [T, *batch, D], got a {kind} of {len(xs)} {what}; write {remedy}"
    )


def _shapes(tree):
    return [leaf.shape for leaf in jax.tree.leaves(tree)]
