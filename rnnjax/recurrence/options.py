"""Checks of the arguments of `unroll`: shapes and types of arrays."""

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnnjax.cells.base import Cell

PyTree = Any


def described(tree):
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
        found, wanted = described(tree), described(want)
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


def checked_flags(name: str, flags: Any, shape: tuple[int, ...]) -> Any:
    """Return flags, the argument called `name`, as booleans of a shape."""
    if flags is None:
        return None
    flags = jnp.asarray(flags)
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{name} must be booleans, got {flags.dtype}")
    if flags.shape != shape:
        swapped = sorted(flags.shape) == sorted(shape)
        hint = "; are the axes of time and batch swapped?" if swapped else ""
        raise ValueError(f"{name} must have shape {shape}, got {flags.shape}{hint}")
    return flags


def output_shape(cell: Cell, batch: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of what the cell's `output` gives for a batch."""
    return jax.eval_shape(lambda: cell.output(cell.initial_carry(batch))).shape


def check_masked_output(masked_output: Any, mask: Any) -> None:
    """Raise a ValueError unless it is None, numbers or "last", and comes with a mask."""
    if masked_output is not None and mask is None:
        raise ValueError("masked_output was given without mask; give both or neither")
    if isinstance(masked_output, str) and masked_output != "last":
        raise ValueError(f'masked_output must be numbers or "last", got {masked_output!r}')


def numbers(masked_output: Any, shape: tuple[int, ...]) -> Any:
    """Return `masked_output`, broadcast to the shape of outputs.

    Raises:
        ValueError: it does not broadcast.
    """
    value = jnp.asarray(masked_output)
    try:
        return jnp.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(
            f'masked_output must be "last" or numbers that broadcast to {shape}, got shape '
            f"{value.shape}"
        ) from None


def checked_clip(largest: Any) -> Any:
    """Return the bound of `clip_adjoints` as a positive scalar."""
    if largest is None:
        return None
    given = known(largest)
    if jnp.shape(largest) != () or (given is not None and not given > 0):
        raise ValueError(f"clip_adjoints must be a positive number, got {largest}")
    return jnp.asarray(largest, float)


def checked_over_time(
    name: str, cell: Cell, values: PyTree, total: int, batch: tuple[int, ...]
) -> PyTree:
    """Return values, the argument called `name`, as a pytree like the carry with a leading T."""
    if values is None:
        return None
    carry = jax.eval_shape(lambda: cell.initial_carry(batch))
    over_time = jax.tree.map(lambda c: jax.ShapeDtypeStruct((total, *c.shape), c.dtype), carry)
    check_like(values, over_time, name)
    return jax.tree.map(jnp.asarray, values)


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
