"""Checks of the arguments of `unroll`: shapes and types of arrays."""

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnnjax.cells.base import Cell, Noisy
from rnnjax.cells.gated import is_gated

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
    noises = []
    while isinstance(xs, Noisy):
        noises, xs = [*noises, *jax.tree.leaves(xs.noise)], xs.x
    one = cell.input_shape(1)
    inputs = [jnp.shape(x) for x in jax.tree.leaves(xs)]
    shapes = [*inputs, *map(jnp.shape, noises)]
    ends = [len(shape) - len(one) for shape in inputs] + [len(jnp.shape(a)) - 1 for a in noises]
    if not inputs or min(ends) < 1 or any(shape[-len(one) : -1] != one[:-1] for shape in inputs):
        wanted = ", ".join(["T", "*batch", *map(str, one[:-1]), "D"])
        least = "two" if len(one) == 1 else len(one) + 1
        raise ValueError(f"xs must have shape [{wanted}], at least {least} axes; got {shapes}")
    if len({shape[:end] for shape, end in zip(shapes, ends, strict=True)}) > 1:
        raise ValueError(f"the leaves of xs must agree on [T, *batch]; got shapes {shapes}")
    return shapes[0][1 : ends[0]]


def check_params(cell: Cell, params: PyTree, xs: PyTree) -> None:
    """Raise a ValueError unless `params` have the structure and the shapes that `init` gives them.

    Otherwise parameters of another cell, or a bias of shape [1], could be broadcast into numbers.
    Inputs that are a tree do not tell what `init` was given, and a cell may be used with parameters
    that its `init` does not draw: then nothing is checked.
    """
    while isinstance(xs, Noisy):
        xs = xs.x
    if not isinstance(xs, jax.Array | np.ndarray):
        return
    wanted = _initial_shapes(cell, xs.shape[-1])
    if wanted is None:
        return
    kind, found = type(cell).__name__, jax.tree.structure(params)
    if found != jax.tree.structure(wanted):
        hint = ""
        if isinstance(params, Mapping) and "params" in params:
            hint = "; of a layer's variables take layer.cell_params(variables['params'])"
        raise ValueError(
            f"params must be what {kind}.init returns, {_described(wanted)}; got "
            f"{_described(params)}{hint}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = [jnp.shape(leaf) for _, leaf in leaves]
    for (path, _), got, want in zip(leaves, shapes, _shapes(wanted), strict=True):
        if got == want:
            continue
        for size in {shape[0] for shape in shapes if shape and shape[0]}:
            if _shapes(_initial_shapes(cell, size)) == shapes:
                raise ValueError(
                    f"inputs must have {size} features, as the parameters have; got shape "
                    f"{xs.shape}"
                )
        raise ValueError(
            f"params{jax.tree_util.keystr(path)} must have shape {want}, as {kind}.init makes it "
            f"for {xs.shape[-1]} features; got {got}"
        )


@functools.lru_cache(maxsize=256)
def _initial_shapes(cell, input_size):
    """Return the shapes of the parameters that `init` draws; None if it cannot."""
    try:
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))
    except Exception:  # of an author's own cell, which may have no use for it
        return None


def _shapes(tree):
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


def _described(tree):
    """Return what a person would call the outermost part of a tree."""
    fields = getattr(tree, "_fields", None)
    if fields is not None:
        return f"{type(tree).__name__}({', '.join(fields)})"
    if isinstance(tree, Mapping):
        return f"a {type(tree).__name__} of {', '.join(map(repr, tree))}"
    if isinstance(tree, tuple | list):
        return f"a plain {type(tree).__name__} of {len(tree)}"
    return "None" if tree is None else f"a {type(tree).__name__}"


def start_carry(cell: Cell, carry: PyTree, batch: tuple[int, ...], name: str) -> PyTree:
    """Return `carry`, or the cell's initial one for None, after checking structure and shapes."""
    if carry is None:
        return cell.initial_carry(batch)
    initial = jax.eval_shape(lambda: cell.initial_carry(batch))
    check_like(carry, initial, name)
    return jax.tree.map(jnp.asarray, carry)


def check_like(tree: PyTree, want: PyTree, name: str) -> None:
    """Raise a ValueError unless `tree` has the structure and the shapes of `want`."""
    if jax.tree.structure(tree) != jax.tree.structure(want):
        found, wanted = _described(tree), _described(want)
        if found == wanted:  # the difference is further down
            found, wanted = jax.tree.structure(tree), jax.tree.structure(want)
        raise ValueError(f"{name} must have the structure {wanted}, got {found}")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), wanted in zip(leaves, jax.tree.leaves(want), strict=True):
        if jnp.shape(leaf) != wanted.shape:
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} must have shape {wanted.shape}, "
                f"got {jnp.shape(leaf)}"
            )


def settle_dtypes(cell: Cell, ready: PyTree, xs: PyTree, carry: PyTree) -> PyTree:
    """Cast `carry` to the types that it has at every step, so that a scan can carry it.

    For example, float64 parameters turn a float32 initial carry into a float64 one. Inputs do not
    change the type of a gated cell's carry.
    """
    if is_gated(cell):
        widest = _widest(ready)
        carry = jax.tree.map(lambda c: c.astype(_promoted(c.dtype, widest)), carry)

    def after(carry):
        return jax.eval_shape(lambda p, x, c: cell.step(p, c, cell.project(p, x)), ready, x, carry)

    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    name = f"the carry that {type(cell).__name__}.step returns"
    check_like(after(carry), carry, name)
    carry = jax.tree.map(
        lambda c, n: c if c.dtype == n.dtype else c.astype(n.dtype), carry, after(carry)
    )
    for before, now in zip(jax.tree.leaves(carry), jax.tree.leaves(after(carry)), strict=True):
        if before.dtype != now.dtype:
            raise ValueError(f"{name} changes type at every step: {before.dtype}, then {now.dtype}")
    return carry


def _widest(tree):
    """Return the widest real type of the floating and complex leaves."""
    found = [jnp.finfo(a.dtype).dtype for a in jax.tree.leaves(tree) if _inexact(a.dtype)]
    return functools.reduce(jnp.promote_types, found, jnp.dtype(jnp.bfloat16))


def _promoted(dtype, widest):
    """Return the type of a carry's leaf beside parameters of the type `widest`."""
    wider = _inexact(dtype) and jnp.finfo(dtype).bits < jnp.finfo(widest).bits
    return jnp.promote_types(dtype, widest) if wider else dtype


def _inexact(dtype):
    return jnp.issubdtype(dtype, jnp.inexact)


def known(value: Any) -> np.ndarray | None:
    """Return a value as a NumPy array, or None while it is traced."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    return None if traced else np.asarray(value)


def checked_lengths(
    lengths: Any, total: int, batch: tuple[int, ...], name: str = "seq_lengths"
) -> Any:
    """Return lengths, the argument called `name`, as integers `[*batch]` in 0..T."""
    if lengths is None:
        return None
    given, lengths = known(lengths), jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {lengths.dtype}")
    if lengths.shape != batch:
        swapped = lengths.shape[:1] == (total,) and lengths.ndim == len(batch)
        hint = "; are the axes of time and batch swapped?" if swapped else ""
        raise ValueError(f"{name} must have the batch shape {batch}, got {lengths.shape}{hint}")
    if given is not None and given.size:
        low, high = int(given.min()), int(given.max())
        if low < 0 or high > total:
            raise ValueError(f"{name} must lie in 0..T = 0..{total}, got {low}..{high}")
    return lengths


def checked_resets(resets: Any, total: int, batch: tuple[int, ...]) -> Any:
    """Return resets as booleans `[T, *batch]`."""
    if resets is None:
        return None
    resets = jnp.asarray(resets)
    if resets.dtype != jnp.bool_:
        raise TypeError(f"resets must be booleans, got {resets.dtype}")
    if resets.shape != (total, *batch):
        raise ValueError(f"resets must have shape {(total, *batch)}, got {resets.shape}")
    return resets


def checked_clip(largest: Any) -> Any:
    """Return the bound of `clip_adjoints` as a positive scalar."""
    if largest is None:
        return None
    given = known(largest)
    if jnp.shape(largest) != () or (given is not None and not given > 0):
        raise ValueError(f"clip_adjoints must be a positive number, got {largest}")
    return jnp.asarray(largest, float)


def checked_perturbations(
    cell: Cell, perturbations: PyTree, total: int, batch: tuple[int, ...]
) -> PyTree:
    """Return perturbations as a pytree like the carry with a leading T."""
    if perturbations is None:
        return None
    carry = jax.eval_shape(lambda: cell.initial_carry(batch))
    over_time = jax.tree.map(lambda c: jax.ShapeDtypeStruct((total, *c.shape), c.dtype), carry)
    check_like(perturbations, over_time, "perturbations")
    return jax.tree.map(jnp.asarray, perturbations)


def checked_probe(probe: Any, total: int, batch: tuple[int, ...]) -> Any:
    """Return the norm probe as floats `[T, *batch]`."""
    if probe is None:
        return None
    probe = jnp.asarray(probe)
    if probe.shape != (total, *batch):
        raise ValueError(f"norm_probe must have shape {(total, *batch)}, got {probe.shape}")
    if not jnp.issubdtype(probe.dtype, jnp.floating):
        raise TypeError(f"norm_probe must be floating, got {probe.dtype}")
    return probe


def checked_lags(lags: Iterable[int], largest: int, name: str) -> list[int]:
    """Return lags as integers in 1..`largest`, which is called `name`."""
    lags = [operator.index(lag) for lag in lags]
    for lag in lags:
        if not 1 <= lag <= largest:
            raise ValueError(f"lags must lie in 1..{name} = 1..{largest}, got {lag}")
    return lags
