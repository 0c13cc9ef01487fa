"""Random parameters, inputs and carries on which a cell is tried, in float32 and in float64."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell

PyTree = Any

TIME, BATCH = 7, 2


def narrow(cell: Any, input_size: int, key: Array) -> tuple[PyTree, Array, PyTree]:
    """Return parameters, inputs `[TIME, BATCH, D]` and a carry in 32-bit types."""
    xs = inputs(cell, input_size, key, (TIME, BATCH), jnp.float32)
    return cell.init(key, input_size), xs, random_carry(cell, (BATCH,), key, jnp.float32)


def wide(cell: Any, input_size: int, key: Array) -> tuple[Any, PyTree, Array, PyTree]:
    """Return the cell computing in float64, and parameters, inputs and a carry of that type.

    Call it with 64-bit types enabled. Biases start at zero and gates near their middle, so some
    noise is added to the parameters to make every term count.
    """
    leaves, structure = jax.tree.flatten(cell.init(key, input_size))
    keys = jax.random.split(key, max(1, len(leaves)))
    noisy = [
        leaf.astype(_as_wide(leaf)) + 0.1 * jax.random.normal(k, leaf.shape, _as_wide(leaf))
        for leaf, k in zip(leaves, keys, strict=False)
    ]
    cell = with_types(cell, dtype=None, param_dtype=jnp.float64)
    xs = inputs(cell, input_size, key, (TIME, BATCH))
    return cell, structure.unflatten(noisy), xs, random_carry(cell, (BATCH,), key)


def inputs(
    cell: Any, input_size: int, key: Array, leading: tuple[int, ...], dtype: Any = jnp.float64
) -> Array:
    """Return random inputs `[*leading, D]`, or of the shape that the cell's `input_shape` says."""
    return jax.random.normal(key, (*leading, *cell.input_shape(input_size)), dtype)


def with_types(cell: Any, **types: Any) -> Any:
    """Return the cell, and the cells within it, with those of the fields `types` that they have."""
    if not dataclasses.is_dataclass(cell) or isinstance(cell, type):
        return cell
    changes = {}
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        if field.name in types:
            changes[field.name] = types[field.name]
        elif isinstance(value, Cell) and (inner := with_types(value, **types)) != value:
            changes[field.name] = inner
    copy: Any = dataclasses.replace(cell, **changes) if changes else cell
    return copy


def random_carry(cell: Any, batch: tuple[int, ...], key: Array, dtype: Any = jnp.float64) -> PyTree:
    """Return the initial carry plus noise, its floating leaves in `dtype`.

    Complex leaves have the complex type whose parts are of `dtype`; other leaves are unchanged.
    """
    leaves, structure = jax.tree.flatten(cell.initial_carry(batch))
    keys = jax.random.split(key, max(1, len(leaves)))
    noisy = []
    for leaf, own in zip(leaves, keys, strict=False):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            complex_ = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
            type_ = jnp.result_type(dtype, jnp.complex64) if complex_ else dtype
            leaf = leaf.astype(type_) + 0.3 * jax.random.normal(own, leaf.shape, type_)
        noisy.append(leaf)
    return structure.unflatten(noisy)


def _as_wide(leaf):
    return jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64
