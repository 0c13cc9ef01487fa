"""Fixed points followed along an input or a parameter, through the folds of their branch."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array

from rnnjax.cells.base import Cell, check_positive, check_size
from rnnjax.diagnostics.linear import precise
from rnnjax.dynamics import maps
from rnnjax.dynamics.arclength import Branching, Corrected, make_branching
from rnnjax.dynamics.stability import stability

PyTree = Any
SHORTEST = 1e-9  # of the longest step: where following a branch is given up
STRAIGHT = 0.95  # the least cosine between the tangents of neighbouring points


class Folds(NamedTuple):
    """The F points where a branch turns back: saddle-nodes, where an eigenvalue is 1."""

    values: Any  # [F], of p
    points: Any  # carries, leaves [F, ...]
    vectors: Any  # [F, N], the eigenvector of the eigenvalue 1


class Branch(NamedTuple):
    """What `continue_fixed_point` returns: M points in the order in which they were found."""

    values: Any  # [M], of p
    points: Any  # carries, leaves [M, ...]
    eigenvalues: Any  # complex [M, N], descending modulus
    stable: Any  # [M], all |eigenvalues| < 1
    num_unstable: Any  # [M], how many |eigenvalues| >= 1
    folds: Folds
    ended: str  # "at stop", "at start", "at max_points", or "lost"


@precise
def continue_fixed_point(
    cell: Cell,
    along: Callable[[Array], tuple[PyTree, PyTree]],
    point: PyTree,
    start: float | int,
    stop: float | int,
    *,
    max_step: float | int | None = None,
    max_points: int = 1000,
    tolerance: float | int | None = None,
) -> Branch:
    """Return the branch of fixed points through `point` as a number p goes from start to stop.

        F(s, p) = s,    tangent . (s - s_k, p - p_k) = step       (pseudo-arclength)

    State and p are unknown together, so the branch is followed around folds, where it turns back
    and an eigenvalue passes 1. Each fold is then solved for by itself, to rounding:

        F(s, p) = s,    J v = v,    ||v|| = 1

    The branch ends where p reaches `stop`, or `start` again, after `max_points`, or where no
    further point is found, as where branches cross. Compute in float64.

    Args:
        cell: a cell.
        along: a differentiable function of p that returns `(params, x)`: `lambda p: (params, p *
            direction)` for an input, `lambda b: (params._replace(bias=b), x)` for a parameter.
        point: a carry at or near a fixed point at p = start.
        start, stop: the range of p.
        max_step: the longest step in (s, p); None means a hundredth of |stop - start|. Steps become
            shorter where the branch curves.
        max_points: the branch has at most so many.
        tolerance: the largest ||F(s) - s|| of a point; None means 1e-10 in float64, and 1e-5 in
            float32.

    Raises:
        ValueError: a shape does not fit, start equals stop, a number is not positive, or there is
            no fixed point near `point`.
        FloatingPointError: `point` is not finite.
        TypeError: the step has no forward mode.

    Source: Keller 1977, "Numerical solution of bifurcation and nonlinear eigenvalue problems"
    (arclength); Moore, Spence 1980, "The calculation of turning points of nonlinear equations",
    SIAM Journal on Numerical Analysis 17 (folds).
    """
    check_size("max_points", max_points)
    if start == stop:
        raise ValueError(f"start and stop must differ, got {start} twice")
    along, point = _on_one_device(along, start), maps.on_one_device(point)
    longest = abs(stop - start) / 100 if max_step is None else max_step
    check_positive("max_step", longest)
    point = jax.tree.map(lambda a: jnp.asarray(a)[None], point)
    point = maps.checked_starts(cell, point, "point")
    params, x = along(jnp.asarray(start, float))
    given = maps.make_map(cell, params, x, maps.one_of(point))
    flat = maps.flat_states(given.carry, 0)
    if tolerance is None:
        tolerance = 1e-10 if jnp.finfo(flat.dtype).bits >= 64 else 1e-5
    check_positive("tolerance", tolerance)
    branching = make_branching(cell.without_initialisers(), along, given.carry, tolerance)
    first = _first(branching, jnp.append(flat, start).astype(flat.dtype), stop - start, tolerance)
    found, ended = _follow(branching, first, float(stop), longest, max_points, tolerance)
    states = jnp.stack([here.z for here in found])
    known = stability(branching.jacobians(states))
    return Branch(
        np.asarray(states[:, -1]),
        jax.tree.map(np.asarray, maps.as_carry(given, states[:, :-1])),
        *(known.eigenvalues, known.stable, known.num_unstable),
        _folds(branching, given, found, tolerance),
        ended,
    )


def _on_one_device(along, start):
    """Return the function with the arrays that it holds on one device: see `on_one_device`."""
    p = jnp.asarray(start, float)
    closed, shape = jax.make_jaxpr(along, return_shape=True)(p)
    consts, structure = maps.on_one_device(closed.consts), jax.tree.structure(shape)
    return lambda p: structure.unflatten(jaxpr_as_fun(closed.replace(consts=consts))(p))


def _first(branching: Branching, z: Array, way: float | int, tolerance: float | int) -> Corrected:
    """Return the fixed point at p = start, with a tangent along which p goes the right way."""
    direction = jnp.zeros_like(z).at[-1].set(np.sign(way))
    first = branching.correct(z, direction)
    if not first.distance <= tolerance or not bool(jnp.isfinite(first.tangent).all()):
        raise ValueError(
            f"point must be near a fixed point at start = {float(z[-1]):g}, but Newton's method "
            f"ends at ||F(s) - s|| = {float(first.distance):.1e} (fixed_points searches from far)"
        )
    return first._replace(tangent=first.tangent * np.sign(way) * np.sign(first.tangent[-1]))


def _follow(branching, first, stop, longest, max_points, tolerance):
    """Return points along the branch, and how it ended."""
    start, found, step = float(first.z[-1]), [first], longest
    way = np.sign(stop - start)
    while len(found) < max_points:
        here = found[-1]
        new = branching.correct(here.z + step * here.tangent, here.tangent)
        turned = float(new.tangent @ here.tangent)
        if not new.distance <= tolerance or not turned >= STRAIGHT:
            step /= 2
            if step < SHORTEST * longest:
                return found, "lost"
            continue
        p = float(new.z[-1])
        for end, beyond, name in (
            (stop, (p - stop) * way >= 0, "at stop"),
            (start, (p - start) * way <= 0, "at start"),
        ):
            if beyond:
                return [*found, _landed(branching, here, new, end)], name
        found.append(new)
        step = min(longest, step * (2 if new.steps <= 3 else 1))
    return found, "at max_points"


def _landed(branching, here, new, end):
    """Return the point at p = end, between two points."""
    part = (end - here.z[-1]) / (new.z[-1] - here.z[-1])
    across = jnp.zeros_like(here.z).at[-1].set(1)
    last = branching.correct((here.z + part * (new.z - here.z)).at[-1].set(end), across)
    return last._replace(tangent=last.tangent * jnp.sign(last.tangent @ new.tangent))


def _folds(branching, given, found, tolerance):
    """Return where p turns back between two points."""
    turns = []
    for here, new in itertools.pairwise(found):
        before, after = here.tangent[-1], new.tangent[-1]
        if float(before * after) >= 0:
            continue
        part = before / (before - after)
        z = here.z + part * (new.z - here.z)
        vector = (here.tangent + part * (new.tangent - here.tangent))[:-1]
        z, vector, distance = branching.fold(z, vector / jnp.linalg.norm(vector))
        if distance <= 10 * tolerance:
            turns.append((z, vector))
    size = found[0].z.shape[0] - 1
    zs = jnp.stack([z for z, _ in turns]) if turns else jnp.zeros((0, size + 1))
    vectors = jnp.stack([v for _, v in turns]) if turns else jnp.zeros((0, size))
    points = jax.tree.map(np.asarray, maps.as_carry(given, zs[:, :-1]))
    return Folds(np.asarray(zs[:, -1]), points, np.asarray(vectors))
