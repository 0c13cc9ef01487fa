"""Newton's method for all states of a sequence at once, and the derivative of the solution.

The states s_1 .. s_T solve s_t = f_t(s_{t-1}). From a guess s*, with A_t = df_t/ds at s*_{t-1},

    d_t = A_t d_{t-1} + f_t(s*_{t-1}) - s*_t,   s = s* + d

is one linear recurrence. Any matrices A have the same solution, and the first k states are right
after k iterations: d is zero there, exactly.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.recurrence.block_scan import solve, solve_damped
from rnnjax.recurrence.blocks import (
    Blocks,
    diagonal_kernel,
    diagonal_of,
    exact_blocks,
    of_units,
    with_diagonal,
)
from rnnjax.recurrence.carries import RealLeaves, probe_norm
from rnnjax.recurrence.steps import Now, enter, leave, where

PyTree = Any


class NewtonReport(NamedTuple):
    """How Newton's method went, one entry for each example."""

    iterations: Any  # [*batch], linear recurrences solved, over all chunks
    residual: Any  # [*batch], the largest |f(s_{t-1}) - s_t| in units of the largest |s_t|
    converged: Any  # [*batch], whether the residual is at most the tolerance, in every chunk


@dataclasses.dataclass(frozen=True)
class Newton:
    """The static options of `unroll_newton`."""

    jacobian: Literal["dense", "diagonal"]
    tolerance: float
    damping: float
    max_iterations: int


class Given(NamedTuple):
    """What the states depend on, leaves `[T, *batch, ...]` but for those of the first three."""

    ready: PyTree
    reset_carry: PyTree  # `[*batch, ...]`, or None
    start: PyTree  # s_0, `[*batch, ...]`
    inputs: PyTree  # the cell's projected inputs
    now: Now


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """The functions f_t of a cell, on lists of the leaves of its carry. Static."""

    cell: Cell
    structure: Any  # of the carry
    ndim: int  # of the leading axes, time and batch

    def after(self, given: Given, entering: list[Array], step: Callable | None = None) -> list:
        """Return the states after each step, from those that enter it.

        `step(carry, u)` is by default the cell's own.
        """
        step = step or functools.partial(self.cell.step, given.ready)
        carry = self.structure.unflatten(entering)
        carry = enter(self.ndim, (given.reset_carry, None), carry, given.now)
        return jax.tree.leaves(leave(carry, step(carry, given.inputs), given.now))

    def entering(self, given: Given, after: list[Array]) -> list[Array]:
        """Return the states that enter each step, from those after it."""
        first = jax.tree.leaves(given.start)
        return [jnp.concatenate([s[None], a[:-1]]) for s, a in zip(first, after, strict=True)]

    def factors(self, given: Given, like: list[Array], jacobian: str) -> tuple[Blocks, Callable]:
        """Return the blocks in which A is solved, and a function from entering states to A."""
        after = functools.partial(self.after, given)
        exact = exact_blocks(after, like, self.ndim)
        if jacobian == "dense" or exact.kind == "units":
            return exact, functools.partial(exact.jacobian, after)
        kernel = diagonal_kernel(self.cell, given.ready)
        if kernel is not None:
            cell: Any = self.cell

            def advance(entering, fixed):
                step = functools.partial(with_diagonal, cell, given.ready, kernel, fixed)
                return self.after(given, entering, step)

            def products(entering):
                carry = self.structure.unflatten(entering)
                carry = enter(self.ndim, (given.reset_carry, None), carry, given.now)
                return cell.recur(given.ready, carry, given.inputs)

            fixed = jax.eval_shape(products, like)
            zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), fixed)
            if of_units(lambda entering: advance(entering, zeros), like):
                units = Blocks("units", self.ndim)

                def by_units(entering):
                    fixed = products(entering)
                    return units.jacobian(lambda s: advance(s, fixed), entering)

                return units, by_units
        dense = Blocks("dense", self.ndim)
        return Blocks("diagonal", self.ndim), lambda s: diagonal_of(dense.jacobian(after, s))


def scan_newton(
    cell: Cell,
    ready: PyTree,
    carry: tuple[PyTree, NewtonReport],
    xs: PyTree,
    now: Now,
    shared: tuple[PyTree, Any],
    *,
    options: Newton,
    guess: PyTree,
    batch_ndim: int,
    reverse: bool,
) -> tuple[tuple[PyTree, NewtonReport], PyTree]:
    """Return the final carry and the carries after each step, leaves `[T, *batch, ...]`.

    With the carry goes a report, to which that of these steps is added.
    """
    state, before = carry
    if not jax.tree.leaves(xs)[0].shape[0]:
        empty = jax.tree.map(lambda s: jnp.zeros((0, *s.shape), s.dtype), state)
        return carry, empty
    if guess is None:
        total = jax.tree.leaves(xs)[0].shape[0]
        guess = jax.tree.map(lambda s: jnp.broadcast_to(s, (total, *s.shape)), state)
    inputs, now, guess = _flipped((cell.project(ready, xs), now, guess), reverse)
    now = _without_probe(now, guess, batch_ndim + 1)
    leaves, structure = jax.tree.flatten(guess)
    given = Given(ready, shared[0], state, inputs, now)
    recurrence = Recurrence(cell, structure, batch_ndim + 1)
    leaves = [a.astype(s.dtype) for a, s in zip(leaves, jax.tree.leaves(state), strict=True)]
    found, report = solve_states(recurrence, options, given, leaves)
    final = structure.unflatten([s[-1] for s in found])
    both = NewtonReport(
        before.iterations + report.iterations,
        jnp.maximum(before.residual, report.residual),
        before.converged & report.converged,
    )
    return (final, both), _flipped(structure.unflatten(found), reverse)


def no_report(batch: tuple[int, ...], carry: PyTree) -> NewtonReport:
    """Return the report of no steps at all."""
    real = jnp.finfo(jnp.result_type(*jax.tree.leaves(carry))).dtype
    return NewtonReport(jnp.zeros(batch, jnp.int32), jnp.zeros(batch, real), jnp.ones(batch, bool))


def _flipped(tree, reverse):
    return jax.tree.map(lambda a: a[::-1], tree) if reverse else tree


def _without_probe(now, carries, ndim):
    """Return `now` with a perturbation of zero, whose gradient is measured, instead of a probe."""
    if now.probe is None:
        return now
    leaves, structure = jax.tree.flatten(carries)
    nothing = structure.unflatten(probe_norm([jnp.zeros_like(a) for a in leaves], now.probe, ndim))
    moved = now.perturbation
    moved = nothing if moved is None else jax.tree.map(jnp.add, moved, nothing)
    return now._replace(perturbation=moved, probe=None)


def solve_states(
    recurrence: Recurrence,
    options: Newton,
    given: Given,
    guess: list[Array],
) -> tuple[list[Array], NewtonReport]:
    """Return the states after each step, leaves `[T, *batch, ...]`, and how it went.

    They have the derivative of the solution, whatever approximation found it.
    """
    fixed = lax.stop_gradient(given._replace(now=given.now._replace(cut=None)))
    found, report = _solved(recurrence, options, fixed, lax.stop_gradient(guess))
    leaves = RealLeaves.of(given, jnp.inexact)
    how = recurrence, options.jacobian, leaves
    return _differentiable(how, *leaves.split(given), found), report


def _solved(recurrence, options, given, guess):
    blocks, factors = recurrence.factors(given, guess, options.jacobian)

    def residual(found):
        after = recurrence.after(given, recurrence.entering(given, found))
        off = _largest([a - b for a, b in zip(after, found, strict=True)], recurrence.ndim)
        scale = _largest(after, recurrence.ndim)
        return off / jnp.where(scale > 0, scale, 1)

    def unfinished(state):
        _, left, iterations = state
        most = jnp.max(iterations, initial=0)
        return jnp.any(~(left <= options.tolerance)) & (most < options.max_iterations)

    def iterate(state):
        found, left, iterations = state
        entering = recurrence.entering(given, found)
        after = recurrence.after(given, entering)
        off = blocks.split([a - b for a, b in zip(after, found, strict=True)])
        a = factors(entering)
        change = solve_damped(a, off, options.damping) if options.damping else solve(a, off)
        moved = blocks.join(blocks.split(found) + change, found)
        active = ~(left <= options.tolerance)
        moved = where(jnp.broadcast_to(active, off.shape[: recurrence.ndim]), moved, found)
        new = [jnp.where(jnp.isfinite(m), m, f) for m, f in zip(moved, found, strict=True)]
        return new, jnp.where(active, residual(new), left), iterations + active

    batch = guess[0].shape[1 : recurrence.ndim]
    start = guess, residual(guess), jnp.zeros(batch, jnp.int32)
    found, left, iterations = lax.while_loop(unfinished, iterate, start)
    return found, NewtonReport(iterations, left, left <= options.tolerance)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _differentiable(how, floats, others, found):
    """Return `found`, with the derivative of the solution with respect to `floats`."""
    del how, floats, others
    return found


@_differentiable.defjvp
def _tangents(how, primals, tangents):
    """Solve the linear recurrence of the tangents, exactly: ds_t = J_t ds_{t-1} + df_t."""
    (floats, others, found), (recurrence, jacobian, leaves) = primals, how
    found = _differentiable(how, floats, others, found)  # so that it has a derivative, too
    given, moved = leaves.join(floats, others), leaves.join(tangents[0], others)
    entering = recurrence.entering(given, found)
    first = recurrence.entering(moved, [jnp.zeros_like(s) for s in found])

    def after(floats, entering):
        return recurrence.after(leaves.join(floats, others), entering)

    _, moves = jax.jvp(after, (floats, entering), (tangents[0], first))
    step = functools.partial(after, floats)
    blocks = exact_blocks(step, entering, recurrence.ndim)
    if blocks.kind == "dense" and jacobian == "diagonal":
        return found, _step_by_step(recurrence, given, entering, moves)
    a = blocks.jacobian(step, entering)
    return found, blocks.join(solve(a, blocks.split(moves)), moves)


def _step_by_step(recurrence, given, entering, moves):
    """Solve the same recurrence without dense Jacobians."""
    one = dataclasses.replace(recurrence, ndim=recurrence.ndim - 1)

    def advance(tangent, now):
        entering, move, inputs, options = now
        here = given._replace(inputs=inputs, now=options)
        _, tangent = jax.jvp(functools.partial(one.after, here), (entering,), (tangent,))
        tangent = [a + b for a, b in zip(tangent, move, strict=True)]
        return tangent, tangent

    start = [jnp.zeros_like(m[0]) for m in moves]
    return lax.scan(advance, start, (entering, moves, given.inputs, given.now))[1]


def _largest(leaves, ndim):
    """Return the largest modulus in time and in each example's state, `[*batch]`."""
    axes = [(0, *range(ndim, v.ndim)) for v in leaves]
    found = [jnp.max(jnp.abs(v), axis, initial=0) for v, axis in zip(leaves, axes, strict=True)]
    return functools.reduce(jnp.maximum, found)
