"""Where states in a plane go in one step: the flow field of a two-dimensional system."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import precise
from rnnjax.dynamics import maps

PyTree = Any


@precise
def flow_in_plane(
    cell: Cell,
    params: PyTree,
    x: PyTree,
    origin: Float[Array, " N"] | np.ndarray,
    axes: Float[Array, "N 2"] | np.ndarray,
    first: Float[np.ndarray, " I"],
    second: Float[np.ndarray, " J"],
) -> dict[str, np.ndarray]:
    """Return the change in one step of the states on a grid in a plane, as columns of a table.

        s = origin + axes (a, b)^T,    (da, db) = axes^T (F(s, x) - s)

    The field is exact, that of a two-dimensional system, if the plane is invariant: if the part of
    F(s, x) - s that leaves it is zero. A network of two units fills its plane. So does, under
    constant input, a rate network of rank two with W = m n^T / N: from origin = W_in x + b, with
    axes that span the columns of m, no state leaves the plane, and others approach it as
    (1 - alpha)^t. For another plane the field is a projection, and `leaving` says how much it
    leaves out.

    Source: Mastrogiuseppe, Ostojic 2018, "Linking connectivity, dynamics, and computations in
    low-rank recurrent neural networks", Neuron 99.

    Args:
        cell, params: as for `rnnjax.unroll`; the carry has floating leaves alone.
        x: the input of one step, `[D]`, held constant.
        origin: a state of the plane, in the order of `flat_states`.
        axes: two orthonormal columns.
        first, second: coordinates a and b of the grid.

    Returns:
        Columns of I J rows: `x` and `y`, the coordinates; `dx` and `dy`, their change; and
        `leaving`, the norm of the change outside of the plane.

    Raises:
        ValueError: a shape does not fit, or the axes are not orthonormal.
    """
    given = maps.make_map(cell, params, x, cell.initial_carry(()))
    size = maps.size(given.carry)
    origin, axes = jnp.asarray(origin), jnp.asarray(axes)
    if (origin.shape, axes.shape) != ((size,), (size, 2)):
        raise ValueError(
            f"origin and axes must be of states of {size} entries, [{size}] and [{size}, 2]; got "
            f"{origin.shape} and {axes.shape}"
        )
    if not np.allclose(axes.T @ axes, np.eye(2), atol=1e-4):
        raise ValueError("axes must be two orthonormal columns")
    grid = np.stack([a.ravel() for a in np.meshgrid(first, second)], axis=-1)
    states = origin + jnp.asarray(grid, axes.dtype) @ axes.T
    change = jax.vmap(lambda state: maps.advance(cell, given, state))(states) - states
    along = change @ axes
    outside = jnp.linalg.norm(change - along @ axes.T, axis=-1)
    (x_, y_), (dx, dy) = grid.T, np.asarray(along).T
    return {"x": x_, "y": y_, "dx": dx, "dy": dy, "leaving": np.asarray(outside)}
