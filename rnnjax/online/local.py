"""Traces as large as the parameters: how each unit's own state depends on each parameter.

Where a parameter enters the state of a single unit, and all leaves of the carry are `[H]`, unit j
has k real numbers s_j, one of every leaf, and

    e_p' = D_j e_p + d s_j' / d theta_p,   j the unit of parameter p, e_p [k]

with D_j [k, k] that unit's block of the Jacobian, or what a method takes for it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.online.base import Example, Step
from rnnjax.recurrence.blocks import Blocks, diagonal_kernel, of_units, with_diagonal
from rnnjax.recurrence.carries import flatten, partition, unflatten

PyTree = Any
UNITS = Blocks("units", 0)
DRAWS = 16  # of random numbers: a rectified unit does not answer to all of them
CLOSE = 1e-3


def served(cell: Cell, example: Example) -> str | None:
    """Return why the traces of a cell are not local, or None if they are."""
    if not _has_units(partition(example.carry)[0]):
        return "a carry whose leaves have one number for each unit"
    if units_of_parameters(cell, example) is None:
        return "parameters that each enter the state of one unit"
    return None


def is_unitwise(cell: Cell, example: Example) -> bool:
    """Return whether every unit of a state depends only on itself in a step."""
    entering, merge = partition(example.carry)
    if not _has_units(entering):
        return False
    ready = cell.prepare(example.params)
    u = cell.project(ready, example.x)

    def after(leaves):
        return partition(cell.step(ready, merge(leaves), u), like=example.carry)[0]

    return of_units(after, entering)


def _has_units(leaves):
    """Return whether all leaves are `[H]`."""
    return {(1, v.shape) for v in leaves} == {(v.ndim, v.shape) for v in leaves[:1]}


def units_of_parameters(cell: Cell, example: Example) -> np.ndarray | None:
    """Return the unit that each real parameter enters, `[P]`, or None if some enter several.

    Found at random parameters, inputs and states: from the sums of d s_j' / d theta_p over all
    units and over those whose number has a one in a binary place, which agree or are zero.
    """
    leaves, structure = jax.tree.flatten((example.params, example.carry, example.x))
    return _units_of_parameters(cell, structure, shapes_of(leaves))


def shapes_of(leaves: Any) -> tuple[Any, ...]:
    """Return the shapes and types of arrays, hashable."""
    return tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


def drawn(structure: Any, shapes: Any) -> Any:
    """Return `DRAWS` pytrees of random numbers in one; zeros where they are not floating.

    NumPy draws them: compiling JAX's generator for every shape would take longer than all the rest.
    """
    rng = np.random.default_rng(0)

    def one(shape, dtype):
        shape = DRAWS, *shape
        if not jnp.issubdtype(dtype, jnp.inexact):
            return jnp.zeros(shape, dtype)
        numbers = 0.5 * rng.normal(size=shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            numbers = (numbers + 0.5j * rng.normal(size=shape)) / np.sqrt(2)
        return jnp.asarray(numbers, dtype)

    return structure.unflatten([one(*described) for described in shapes])


@functools.lru_cache(maxsize=64)
def _units_of_parameters(cell, structure, shapes):
    with jax.ensure_compile_time_eval():
        numbers = drawn(structure, shapes)

        def sums(places):
            """Return the sums of each place over its units, of all draws, with random weights."""

            def one(numbers):
                params, carry, x = numbers
                of_params, merge = partition(params)

                def after(theta):
                    ready = cell.prepare(merge(unflatten(theta, of_params, 0)))
                    new = cell.step(ready, carry, cell.project(ready, x))
                    return UNITS.split(partition(new, like=carry)[0])

                value, pull = jax.vjp(after, flatten(of_params, 0))
                weights = np.random.default_rng(1).uniform(0.5, 1, value.shape[1:])
                chosen = jnp.asarray(places(value.shape[0]), value.dtype)
                return jax.vmap(lambda c: pull(c[:, None] * jnp.asarray(weights, c.dtype))[0])(
                    chosen
                )

            return np.asarray(
                jax.jit(lambda numbers: jax.vmap(one)(numbers).sum(0))(numbers), float
            )

        def places(count):
            numbers = np.arange(count)
            bits = range(int(count - 1).bit_length())
            return np.stack([np.ones(count), *((numbers >> bit) & 1 for bit in bits)])

        whole, *parts = sums(places)
        found = np.zeros(whole.shape, int)
        for bit, part in enumerate(parts):
            ratio = np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
            alone = (np.abs(ratio) < CLOSE) | (np.abs(ratio - 1) < CLOSE)
            if not np.all(alone & ((whole != 0) | (part == 0))):
                return None
            found |= (ratio > 0.5).astype(int) << bit
        return found


def own_blocks(cell: Cell, example: Example) -> Float[Array, "H k k"]:
    """Return each unit's own block of the Jacobian of the step."""
    entering, merge = partition(example.carry)
    ready = cell.prepare(example.params)
    u = cell.project(ready, example.x)

    def after(leaves):
        return partition(cell.step(ready, merge(leaves), u), like=example.carry)[0]

    if of_units(after, entering):
        return UNITS.jacobian(after, entering)
    kernel = diagonal_kernel(cell, ready)
    if kernel is not None:
        gated: Any = cell
        fixed = gated.recur(ready, example.carry, u)

        def with_own(leaves):
            new = with_diagonal(gated, ready, kernel, fixed, merge(leaves), u)
            return partition(new, like=example.carry)[0]

        if of_units(with_own, entering):
            return UNITS.jacobian(with_own, entering)
    push = jax.linearize(after, entering)[1]
    like = UNITS.split(entering)
    basis = jnp.eye(like.size, dtype=like.dtype).reshape(like.size, *like.shape)
    columns = jax.vmap(lambda v: UNITS.split(push(UNITS.join(v, entering))))(basis)
    columns = columns.reshape(*like.shape, *like.shape)  # [H, k of the column, H, k of the row]
    return jnp.swapaxes(jnp.einsum("jdjc->jdc", columns), -1, -2)


def immediate(cell: Cell, example: Example, step: Step) -> Float[Array, "k P"]:
    """Return d s_j' / d theta_p of each parameter's own unit."""
    floats = partition(example.carry)[0]

    def after(theta):
        return UNITS.split(unflatten(step.after(theta, step.s), floats, 0))

    value, pull = jax.vjp(after, step.theta)
    every = jnp.eye(value.shape[-1], dtype=value.dtype)
    return jax.vmap(lambda part: pull(jnp.broadcast_to(part, value.shape))[0])(every)


def pulled(cell: Cell, example: Example, traces: Array, slope: Array) -> Float[Array, " P"]:
    """Return dl/dtheta from dl/ds `[N]`."""
    floats = partition(example.carry)[0]
    parts = UNITS.split(unflatten(slope, floats, 0))  # [H, k]
    units = units_of_parameters(cell, example)
    return jnp.sum(parts[units].T * traces, axis=0)


def check(method: Any, cell: Cell, example: Example) -> None:
    """Raise a TypeError if the traces of a cell are not local."""
    missing = served(cell, example)
    if missing is not None:
        name = type(method).__name__
        raise TypeError(f"{name} cannot serve {type(cell).__name__}: it needs {missing}")


def zeros(example: Example, step: Step) -> Float[Array, "k P"]:
    """Return traces of a state that depends on no parameter."""
    parts = UNITS.split(partition(example.carry)[0]).shape[-1]
    return jnp.zeros((parts, *step.theta.shape), step.s.dtype)


def after_step(
    cell: Cell, example: Example, step: Step, traces: Array, blocks: Array
) -> Float[Array, "k P"]:
    """Return D e + d s_j' / d theta_p."""
    added, units = immediate(cell, example, step), units_of_parameters(cell, example)
    return jnp.einsum("pcd,dp->cp", blocks[units], traces) + added
