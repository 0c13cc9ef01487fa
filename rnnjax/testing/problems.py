"""Random parameters, inputs and carries on which a cell is tried, in float32 and in float64.

NumPy draws them: JAX would compile a program for every shape and type.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.recurrence.sequential import unroll
from rnnjax.testing.comparing import with_gradients

PyTree = Any

TIME, BATCH = 7, 2
PARAMS, INPUTS, CARRY = range(3)  # each has random numbers of its own


class Problem:
    """A cell and what it is tried on: drawn once, and compiled once, for all checks.

    Args:
        cell: the cell.
        input_size: D of its inputs, or the pytree of their sizes.
        key: of the parameters, inputs and carries.
    """

    def __init__(self, cell: Any, input_size: PyTree, key: Array):
        self.cell, self.input_size, self.key = cell, input_size, key
        self._programs: dict[tuple, Callable] = {}

    def inputs(self, leading: tuple[int, ...], dtype: Any) -> PyTree:
        """Return inputs `[*leading, D]`."""
        return random_inputs(self.cell, self.input_size, leading, self.key, dtype)

    @functools.cached_property
    def params(self) -> PyTree:
        """The parameters that the cell draws."""
        with jax.enable_x64(False):
            return self.cell.init(self.key, self.input_size)

    @functools.cached_property
    def narrow(self) -> tuple[PyTree, PyTree, PyTree]:
        """Parameters, inputs `[TIME, BATCH, D]` and a carry in 32-bit types."""
        with jax.enable_x64(False):
            carry = random_carry(self.cell, (BATCH,), self.key, jnp.float32)
            return self.params, self.inputs((TIME, BATCH), jnp.float32), carry

    @functools.cached_property
    def wide(self) -> tuple[Any, PyTree, PyTree, PyTree]:
        """The cell computing in float64, and parameters, inputs and a carry of that type."""
        with jax.enable_x64(True):
            return _widened(self.cell, self.params, self.input_size, self.key)

    def program(self, **options: Any) -> Callable:
        """Return the compiled `f(params, xs, carry, flags)` of `with_gradients(unroll)` in float64.

        Args:
            options: those of `unroll` that are no arrays; `flags` are those that are.
        """
        own = tuple(options.items())
        if own not in self._programs:
            run = functools.partial(unroll, self.wide[0], return_carries=True, **options)
            self._programs[own] = jax.jit(with_gradients(run))
        return self._programs[own]


def random_inputs(
    cell: Any, input_size: PyTree, leading: tuple[int, ...], key: Array, dtype: Any
) -> PyTree:
    """Return inputs `[*leading, D]`, of the cell's `input_shape`; of a pytree of sizes a pytree."""
    draw = generator(key, INPUTS)
    return jax.tree.map(
        lambda size: jnp.asarray(normal(draw, (*leading, *cell.input_shape(size)), dtype)),
        input_size,
    )


def at(tree: PyTree, index: Any) -> PyTree:
    """Return the entries of every leaf at an index of its leading axes."""
    return jax.tree.map(lambda a: a[index], tree)


def on_host(tree: PyTree) -> PyTree:
    """Return NumPy's arrays, of which an index is no program to compile."""
    return jax.tree.map(np.asarray, tree)


def wide(cell: Any, input_size: PyTree, key: Array) -> tuple[Any, PyTree, PyTree, PyTree]:
    """Return the cell computing in float64, and parameters, inputs and a carry of that type.

    Call it with 64-bit types enabled. Biases start at zero and gates near their middle, so some
    noise is added to the parameters to make every term count.
    """
    return _widened(cell, cell.init(key, input_size), input_size, key)


def _widened(cell, params, input_size, key):
    draw = generator(key, PARAMS)

    def noisy(leaf):
        dtype = jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64
        return jnp.asarray(np.asarray(leaf).astype(dtype) + 0.1 * normal(draw, leaf.shape, dtype))

    xs = random_inputs(cell, input_size, (TIME, BATCH), key, jnp.float64)
    cell = with_types(cell, dtype=None, param_dtype=jnp.float64)
    return cell, jax.tree.map(noisy, params), xs, random_carry(cell, (BATCH,), key)


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
    draw = generator(key, CARRY)

    def noisy(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        complex_ = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        type_ = jnp.result_type(dtype, jnp.complex64) if complex_ else dtype
        noise = 0.3 * normal(draw, leaf.shape, type_)
        return jnp.asarray((np.asarray(leaf) + noise).astype(type_))

    return jax.tree.map(noisy, cell.initial_carry(batch))


def generator(key: Array, *path: int) -> np.random.Generator:
    """Return NumPy's generator for a key of JAX, one for every path."""
    return np.random.default_rng([*np.asarray(jax.random.key_data(key)).tolist(), *path])


def normal(draw: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return normal numbers; complex ones have E|z|^2 = 1, half of it in each part."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        real, imaginary = draw.normal(size=(2, *shape)) / np.sqrt(2)
        return (real + 1j * imaginary).astype(dtype)
    return draw.normal(size=shape).astype(dtype)
