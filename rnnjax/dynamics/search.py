"""Minima of q = 1/2 ||F(s) - s||^2 from many starts at once, by Levenberg-Marquardt and Newton."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.dynamics.maps import Map, advance, advance_with_jacobian

FIRST_DAMPING = 1e-3  # relative to the largest entry of A^T A
SMALLEST_COSINE = 1e-8  # between F(s) - s and the columns of A, at a minimum of q
POLISHING = 5  # undamped steps at the end
ENTRIES = 2**24  # of the matrices that are in memory together


class _State(NamedTuple):
    flat: Any  # [N]
    residual: Any  # F(s) - s
    slopes: Any  # A = J - I
    q: Any
    damping: Any
    factor: Any  # by which the damping grows when a step fails
    iteration: Any
    done: Any


@functools.partial(jax.jit, static_argnames=("cell", "period", "max_iterations"))
def minimise(
    cell: Cell, period: int, max_iterations: int, given: Map, starts: Array, stop_at: Any = 0.0
) -> tuple[Array, Array]:
    """Return where each of the starts `[K, N]` ends, `[K, N]`, and q there, `[K]`.

    Each start has a damping of its own. A step solves

        (A^T A + mu I) d = -A^T (F(s) - s),   A = J - I

    and is taken only if it lowers q; mu follows Nielsen's rule. Near a zero of q, mu vanishes and
    this is Newton's method. It ends where F(s) - s is orthogonal to the columns of A, at a minimum
    of q, or after `max_iterations`. A few undamped steps then bring a fixed point to rounding.
    Where q is at most `stop_at`, no further step is taken.

    Source: Madsen, Nielsen, Tingleff 2004, "Methods for non-linear least squares problems",
    algorithm 3.16.
    """
    size = starts.shape[-1]
    chunk = min(len(starts), max(1, ENTRIES // size**2))
    search = functools.partial(_minimise_one, cell, period, max_iterations, given, stop_at)
    return lax.map(search, starts, batch_size=chunk)


def _minimise_one(cell, period, max_iterations, given, stop_at, start):
    def evaluate(flat):
        after, jacobian = advance_with_jacobian(cell, given, flat, period)
        residual = after - flat
        return residual, jacobian - jnp.eye(len(flat), dtype=flat.dtype), half_square(residual)

    def take(state, flat, found, better):
        """Return the state with the position moved to `flat` if it is better."""
        now = state.flat, state.residual, state.slopes, state.q
        moved = (jnp.where(better, a, b) for a, b in zip((flat, *found), now, strict=True))
        return state._replace(**dict(zip(_State._fields[:4], moved, strict=True)))

    def step(state):
        normal = state.slopes.T @ state.slopes
        slope = state.slopes.T @ state.residual
        damped = normal + state.damping * jnp.eye(len(slope), dtype=slope.dtype)
        change = -cho_solve(cho_factor(damped), slope)
        flat = state.flat + change
        found = evaluate(flat)
        promised = (change @ (state.damping * change - slope)) / 2
        gain = (state.q - found[-1]) / promised
        better = (found[-1] < state.q) & (promised > 0)  # false if anything is not finite
        tamer = jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        damping = state.damping * jnp.where(better, tamer, state.factor)
        factor = jnp.where(better, 2.0, 2 * state.factor).astype(slope.dtype)
        still = jnp.all(flat == state.flat) | ~(damping < 1e30)
        state = take(state, flat, found, better)
        state = state._replace(damping=damping, factor=factor, iteration=state.iteration + 1)
        return state._replace(done=ended(state) | still)

    def ended(state):
        return at_minimum(state) | (state.q <= stop_at)

    def polish(_, state):
        flat = state.flat - jnp.linalg.solve(state.slopes, state.residual)
        found = evaluate(flat)
        return take(state, flat, found, (found[-1] < state.q) & (state.q > stop_at))

    found = evaluate(start)
    damping = FIRST_DAMPING * jnp.max(jnp.sum(found[1] ** 2, axis=0))
    state = _State(
        *(start, *found, damping, jnp.asarray(2, start.dtype), jnp.int32(0), jnp.bool_(False))
    )
    state = state._replace(done=ended(state))
    state = lax.while_loop(
        lambda state: ~state.done & (state.iteration < max_iterations), step, state
    )
    state = lax.fori_loop(0, POLISHING, polish, state)
    return state.flat, state.q


def half_square(residual: Array) -> Array:
    """Return 1/2 ||r||^2."""
    return jnp.sum(residual**2) / 2


def at_minimum(state: _State) -> Array:
    """Return whether F(s) - s is orthogonal to the columns of A, or zero."""
    slope = jnp.linalg.norm(state.slopes.T @ state.residual)
    scale = jnp.linalg.norm(state.slopes) * jnp.linalg.norm(state.residual)
    return slope <= SMALLEST_COSINE * scale


@functools.partial(jax.jit, static_argnames=("cell", "period"))
def orbits(cell: Cell, period: int, given: Map, flat: Array) -> Array:
    """Return the states s, F(s), ..., F^{n-1}(s), `[K, n, N]`, from `flat [K, N]`."""

    def one(flat, _):
        return jax.vmap(functools.partial(advance, cell, given))(flat), flat

    return jnp.moveaxis(lax.scan(one, flat, length=period)[1], 0, 1)


@functools.partial(jax.jit, static_argnames=("cell", "period"))
def jacobians_at(cell: Cell, period: int, given: Map, flat: Array) -> Array:
    """Return the Jacobians of F^n at states `[P, N]`, `[P, N, N]`."""
    return lax.map(lambda s: advance_with_jacobian(cell, given, s, period)[1], flat)
