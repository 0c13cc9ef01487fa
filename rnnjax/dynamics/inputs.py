"""How the next state depends on the input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import forward_mode, precise
from rnnjax.diagnostics.tracing import exact
from rnnjax.dynamics import maps

PyTree = Any


@precise
def input_jacobians(cell: Cell, params: PyTree, x: Array, points: PyTree) -> Array:
    """Return dF / dx at states, `[P, N, D]`: where one step moves a state per unit of each input.

        F(s, x + d) = F(s, x) + (dF / dx) d + ...

    A left eigenvector w of dF / ds, as of `fixed_points`, says what of it stays: w^T (dF / dx) d is
    the change along the mode of w, the selection vector of Mante et al. 2013.

    Args:
        cell, params: as for `rnnjax.unroll`.
        x: the input of one step, `[D]`.
        points: carries with leaves `[P, ...]`.

    Raises:
        ValueError: a shape does not fit, or x changes along time.
        FloatingPointError: a point is not finite.
        TypeError: the step has no forward mode.
    """
    params, x, points = maps.on_one_device((params, jnp.asarray(x), points))
    points = maps.checked_starts(cell, points, "points")
    maps.make_map(cell, params, x, maps.one_of(points))  # checks the shapes

    def advance(x, point):
        given = maps.make_map(cell, params, x, point)
        return maps.advance(cell, given, maps.flat_states(given.carry, 0))

    with forward_mode(cell):
        return jax.jit(jax.vmap(jax.jacfwd(exact(advance)), (None, 0)))(x, points)


def overlaps(vectors: Any, directions: Any) -> np.ndarray:
    """Return |w^T d| / (||w|| ||d||) of complex or real vectors `[..., N]` of one shape, `[...]`.

    That of a left eigenvector with where an input moves the state is 1 if the input moves it in the
    direction that the mode reads, and 0 if the mode does not notice.
    """
    w, d = np.asarray(vectors), np.asarray(directions)
    lengths = np.linalg.norm(w, axis=-1) * np.linalg.norm(d, axis=-1)
    return np.abs(np.sum(w * d, axis=-1)) / np.maximum(lengths, np.finfo(float).tiny)
