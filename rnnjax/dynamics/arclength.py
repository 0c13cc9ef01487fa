"""Points and folds of a branch of fixed points, by Newton's method on z = (state, parameter)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import forward_mode
from rnnjax.diagnostics.tracing import exact
from rnnjax.dynamics import maps

PyTree = Any
CORRECTIONS = 8  # Newton steps, at most


class Corrected(NamedTuple):
    """A point of the branch, or what Newton's method made of a prediction."""

    z: Any  # [N + 1], the state and p
    tangent: Any  # [N + 1], of norm one, in the direction of the tangent before
    distance: Any  # ||F(s) - s||
    steps: Any  # that Newton's method took


class Branching(NamedTuple):
    """The equations of a branch, compiled."""

    correct: Callable  # (z, tangent) -> Corrected, with tangent . (z' - z) = 0
    fold: Callable  # (z, v) -> z and v of the fold, and the norm of its equations
    jacobians: Callable  # z [M, N + 1] -> d F / d s, [M, N, N]


def make_branching(
    cell: Cell, along: Callable[[Array], tuple[PyTree, PyTree]], carry: PyTree, tolerance: float
) -> Branching:
    """Return the equations of the branch of `along`; `carry` has the types of all carries."""

    def given(p):
        params, x = along(p)
        return maps.make_map(cell, params, x, carry)

    def residual(z):
        return maps.advance(cell, given(z[-1]), z[:-1]) - z[:-1]

    def slopes(z):
        with forward_mode(cell):
            return jax.jacfwd(exact(residual))(z)

    def correct(z, tangent):
        start = z

        def step(state):
            z, _, steps = state
            matrix = jnp.concatenate([slopes(z), tangent[None]])
            wanted = jnp.append(residual(z), tangent @ (z - start))
            z = z - jnp.linalg.solve(matrix, wanted)
            return z, jnp.linalg.norm(residual(z)), steps + 1

        def unfinished(state):
            return ~(state[1] <= tolerance) & (state[2] < CORRECTIONS)

        state = step((z, jnp.asarray(jnp.inf, z.dtype), 0))
        z, distance, steps = lax.while_loop(unfinished, step, state)
        along = jnp.zeros_like(z).at[-1].set(1)
        matrix = jnp.concatenate([slopes(z), tangent[None]])
        direction = jnp.linalg.solve(matrix, along)
        return Corrected(z, direction / jnp.linalg.norm(direction), distance, steps)

    def fold(z, vector):
        size = vector.shape[0]

        def equations(both):
            z, v = both[:-size], both[-size:]
            moved, turned = jax.jvp(residual, (z,), (jnp.append(v, 0),))
            return jnp.concatenate([moved, turned, (v @ v - 1)[None]])

        def step(_, both):
            with forward_mode(cell):
                matrix = jax.jacfwd(equations)(both)
            return both - jnp.linalg.solve(matrix, equations(both))

        both = lax.fori_loop(0, 2 * CORRECTIONS, step, jnp.concatenate([z, vector]))
        return both[:-size], both[-size:], jnp.linalg.norm(equations(both))

    def jacobians(zs):
        return lax.map(lambda z: slopes(z)[:, :-1] + jnp.eye(zs.shape[-1] - 1), zs)

    compiled = (jax.jit(f) for f in (correct, fold, jacobians))
    return Branching(*compiled)  # pyright: ignore[reportCallIssue]
