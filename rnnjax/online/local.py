"""Traces as large as the parameters: how each unit's own state depends on each parameter.

Where a parameter enters the state of a single unit, and all leaves of the carry are `[H]`, unit j
has k real numbers s_j, one of every leaf, and

    e_p' = D_j e_p + d s_j' / d theta_p,   j the unit of parameter p, e_p [k]

with D_j [k, k] that unit's block of the Jacobian, or what a method takes for it.
"""

import functools
from collections.abc import Callable
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
    after, entering = step_of_leaves(cell, example)
    return _has_units(entering) and of_units(after, entering)


def step_of_leaves(
    cell: Cell, example: Example, replaced: Callable | None = None
) -> tuple[Callable, list[Array]]:
    """Return the step as a function of the state's floating leaves, and the leaves that enter.

    `replaced(ready, carry, u)` takes the place of `cell.step`, if it is given.
    """
    entering, merge = partition(example.carry)
    ready = cell.prepare(example.params)
    u = cell.project(ready, example.x)

    def after(leaves):
        new = (replaced or cell.step)(ready, merge(leaves), u)
        return partition(new, like=example.carry)[0]

    return after, entering


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
    """Return a pytree of random numbers `[DRAWS, ...]`; zeros where they are not floating.

    NumPy draws them: JAX would compile a program for every shape.
    """
    rng = np.random.default_rng(0)

    def one(shape, dtype):
        real, imaginary = 0.5 * rng.standard_normal((2, DRAWS, *shape))
        if jnp.issubdtype(dtype, jnp.complexfloating):
            return (real + 1j * imaginary).astype(dtype)
        return (real if jnp.issubdtype(dtype, jnp.inexact) else 0 * real).astype(dtype)

    return structure.unflatten([one(*given) for given in shapes])


@functools.lru_cache(maxsize=64)
def _units_of_parameters(cell, structure, shapes):
    def sums(given, weights):
        """Return the sums over all units, and over those with a one in each binary place."""
        params, carry, x = given
        of_params, merge = partition(params)

        def after(theta):
            ready = cell.prepare(merge(unflatten(theta, of_params, 0)))
            new = cell.step(ready, carry, cell.project(ready, x))
            return UNITS.split(partition(new, like=carry)[0])

        value, pull = jax.vjp(after, flatten(of_params, 0))
        numbers = np.arange(len(value))
        bits = range(int(len(value) - 1).bit_length())
        places = np.stack([np.ones(len(value)), *((numbers >> bit) & 1 for bit in bits)])
        chosen = places[..., None] * weights[: value.shape[1]]
        return jax.vmap(pull)(chosen.astype(value.dtype))[0]

    weights = np.random.default_rng(1).uniform(0.5, 1, (DRAWS, 2 * len(shapes)))
    with jax.ensure_compile_time_eval():
        of_draws = jax.jit(jax.vmap(sums))(drawn(structure, shapes), weights)
        whole, *parts = np.asarray(of_draws, float).sum(0)
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
    after, entering = step_of_leaves(cell, example)
    if of_units(after, entering):
        return UNITS.jacobian(after, entering)
    kernel = diagonal_kernel(cell, cell.prepare(example.params))
    if kernel is not None:
        gated: Any = cell

        def with_own(ready, carry, u):
            fixed = gated.recur(ready, example.carry, u)
            return with_diagonal(gated, ready, kernel, fixed, carry, u)

        own, _ = step_of_leaves(cell, example, with_own)
        if of_units(own, entering):
            return UNITS.jacobian(own, entering)
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


def spread(cell: Cell, example: Example, numbers: Array) -> Float[Array, "P N"]:
    """Return numbers `[k, P]` of each parameter's own unit in their places among the N.

    A sum of comparisons, which XLA computes inside the sum that it enters.
    """
    places = _places(partition(example.carry)[0])
    own = places[units_of_parameters(cell, example)].T  # [k, P]
    every = np.arange(places.size)
    pairs = zip(own[..., None], numbers[..., None], strict=True)
    return sum(
        (jnp.where(every == place, n, 0) for place, n in pairs), jnp.zeros((), numbers.dtype)
    )


def _places(leaves):
    """Return where the k numbers of each unit lie among the N, `[H, k]`, as `flatten` has them."""
    columns, start = [], 0
    for v in leaves:
        width = 2 if jnp.iscomplexobj(v) else 1
        columns += [start + i + width * np.arange(v.size) for i in range(width)]
        start += width * v.size
    return np.stack(columns, axis=-1)


def pulled(cell: Cell, example: Example, traces: Array, slope: Array) -> Float[Array, " P"]:
    """Return dl/dtheta from dl/ds `[N]`."""
    floats = partition(example.carry)[0]
    parts = UNITS.split(unflatten(slope, floats, 0))  # [H, k]
    units = units_of_parameters(cell, example)
    return jnp.sum(parts[units].T * traces, axis=0)


def check(method: Any, cell: Cell, example: Example) -> bool:
    """Return True, or raise a TypeError if the traces of a cell are not local."""
    missing = served(cell, example)
    if missing is not None:
        name = type(method).__name__
        raise TypeError(f"{name} cannot serve {type(cell).__name__}: it needs {missing}")
    return True


def zeros(example: Example, step: Step) -> Float[Array, "k P"]:
    """Return traces of a state that depends on no parameter."""
    parts = UNITS.split(partition(example.carry)[0]).shape[-1]
    return jnp.zeros((parts, *step.theta.shape), step.s.dtype)


def after_step(
    cell: Cell, example: Example, step: Step, traces: Array, blocks: Array
) -> Float[Array, "k P"]:
    """Return D e + d s_j' / d theta_p."""
    units = units_of_parameters(cell, example)
    return _by_unit(blocks, units, traces) + immediate(cell, example, step)


def _by_unit(blocks, units, traces):
    """Return D_j e_p for each parameter p and its unit j.

    One product after another: a batched product of tiny matrices is slow on a CPU. Gated cells
    have their parameters in rows of H, so blocks are broadcast: XLA would compute a block again for
    every entry that a gather takes.
    """
    count, k = blocks.shape[:2]
    if not len(units) % count and np.array_equal(units, np.arange(len(units)) % count):
        rows = traces.reshape(k, -1, count)
        found = [sum(blocks[:, i, j] * rows[j] for j in range(k)) for i in range(k)]
    else:
        found = [sum(blocks[units, i, j] * traces[j] for j in range(k)) for i in range(k)]
    return jnp.stack(found).reshape(traces.shape)
