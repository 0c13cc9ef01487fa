"""A loss over a plane through parameter space, and an optimiser's path projected onto it."""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import check_size
from rnnjax.diagnostics.weights import by_path
from rnnjax.recurrence.options import check_like

PyTree = Any


class Surface(NamedTuple):
    """A function over a grid: row j at ys[j], column i at xs[i]."""

    values: Any  # [Y, X]
    log_gradient_norm: Any  # [Y, X], natural logarithm; -inf where the gradient is exactly zero


def surface(
    function: Callable[[PyTree], Array],
    center: PyTree,
    directions: Sequence[PyTree],
    xs: Any,
    ys: Any,
) -> Surface:
    """Return a function and the logarithm of its gradient's norm on a grid in parameter space.

        E(x, y) = function(center + x d_1 + y d_2),   ln ||grad function|| there

    The gradient is with respect to all parameters, not only along the plane. One row of the grid is
    evaluated at a time. A cliff can be much narrower than the spacing of the grid, which then does
    not show its height.

    Args:
        function: of parameters to a scalar; a static argument, so pass the same object to reuse
            the compiled program.
        center: parameters, a pytree.
        directions: (d_1, d_2), pytrees like `center`.
        xs, ys: `[X]` and `[Y]`, coordinates along d_1 and d_2.

    Raises:
        ValueError: there are not two directions like `center`, a coordinate array does not have
            one axis, or `function` returns no scalar.

    Source: Pascanu, Mikolov, Bengio 2013, figure 6; Li et al. 2018, section 4.
    """
    if len(directions) != 2:
        raise ValueError(f"directions must be two, got {len(directions)}")
    for i, direction in enumerate(directions):
        check_like(direction, center, f"directions[{i}]")
    xs, ys = jnp.asarray(xs), jnp.asarray(ys)
    for name, values in (("xs", xs), ("ys", ys)):
        if values.ndim != 1:
            raise ValueError(f"{name} must have one axis, got shape {values.shape}")
    if (shape := jax.eval_shape(function, center).shape) != ():
        raise ValueError(f"function must return a scalar, got shape {shape}")
    return _surface(function, jax.tree.map(jnp.asarray, center), tuple(directions), xs, ys)


@functools.partial(jax.jit, static_argnames="function")
def _surface(function, center, directions, xs, ys):
    def at(y, x):
        point = jax.tree.map(
            lambda c, a, b: (c + x * a + y * b).astype(c.dtype), center, *directions
        )
        value, gradient = jax.value_and_grad(function)(point)
        return Surface(value, _log_norm(gradient))

    return lax.map(lambda y: jax.vmap(functools.partial(at, y))(xs), ys)


def _log_norm(tree):
    """Return ln ||tree||, without squares of what is already small or large."""
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree)]
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(v), initial=0) for v in leaves])
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return jnp.log(scale) + jnp.log(sum(jnp.sum(jnp.abs(v / scale) ** 2) for v in leaves)) / 2


class Window(NamedTuple):
    """A rectangle of the plane."""

    x: tuple[float, float]
    y: tuple[float, float]

    def contains(self, x: Any, y: Any) -> Any:
        """Return whether points lie in the rectangle, elementwise."""
        return (x >= self.x[0]) & (x <= self.x[1]) & (y >= self.y[0]) & (y <= self.y[1])

    def axes(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `count` evenly spaced coordinates along each side."""
        return np.linspace(*self.x, count), np.linspace(*self.y, count)

    def middle(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates of `count` x `count` points, in the middle half of each side."""
        sides = [
            np.linspace(low + (high - low) / 4, high - (high - low) / 4, count)
            for low, high in (self.x, self.y)
        ]
        x, y = np.meshgrid(*sides)
        return x.ravel(), y.ravel()


def entry_direction(params: PyTree, path: str, index: int | Sequence[int]) -> PyTree:
    """Return a direction like `params` that is 1 at one entry of one leaf and 0 elsewhere.

    Args:
        params: a pytree of arrays.
        path: of the leaf, such as `cell.recurrent_kernel`.
        index: of the entry, one integer for each axis of the leaf; () for a scalar.

    Raises:
        ValueError: there is no such leaf or entry.
    """
    leaves = by_path(params)
    if path not in leaves:
        raise ValueError(f"path must be one of {', '.join(leaves)}; got {path!r}")
    shape = jnp.shape(leaves[path])
    given = (index,) if isinstance(index, SupportsIndex) else index
    at = tuple(map(operator.index, given))  # pyright: ignore
    if len(at) != len(shape) or not all(-n <= i < n for i, n in zip(at, shape, strict=True)):
        raise ValueError(f"index must point into {path} of shape {shape}, got {index}")
    zeros = jax.tree.map(jnp.zeros_like, params)
    structure, direction = jax.tree.structure(params), by_path(zeros)
    direction[path] = direction[path].at[at].set(1)
    return structure.unflatten(direction.values())


def random_directions(key: Array, params: PyTree, count: int) -> tuple[PyTree, ...]:
    """Return random Gaussian directions; each filter has the norm of the parameters' filter.

        d_f <- d_f ||w_f|| / ||d_f||

    A filter holds the weights of one unit: a column of a kernel `[in, out]`, or everything at one
    index of the last axis where there are more axes. A vector (a bias) is one filter. Where the
    parameters are zero, so is the direction.

    Args:
        key: of the draw.
        params: a pytree of arrays.
        count: how many directions.

    Raises:
        ValueError: `count` is not a positive integer.

    Source: Li, Xu, Taylor, Studer, Goldstein 2018, "Visualizing the loss landscape of neural
    nets", section 4.
    """
    check_size("count", count)
    leaves, structure = jax.tree.flatten(params)
    return tuple(
        structure.unflatten(
            _like_filters(jax.random.fold_in(own, i), jnp.asarray(leaf))
            for i, leaf in enumerate(leaves)
        )
        for own in jax.random.split(key, count)
    )


def _like_filters(key, weights):
    draw = jax.random.normal(key, weights.shape, weights.dtype)
    axes = tuple(range(weights.ndim - 1)) if weights.ndim > 1 else None
    norms = [jnp.sqrt(jnp.sum(jnp.abs(a) ** 2, axes, keepdims=True)) for a in (weights, draw)]
    return draw * (norms[0] / norms[1])


def path_statistics(path: Mapping[str, Any], x: str, y: str, window: Window) -> dict[str, Any]:
    """Return how an optimiser moves over a plane, and where it ends.

    `largest_step` is the longest move, `at_update` its number from 1 on, `late_loss` the median
    loss over the last quarter of the path.

    Args:
        path: columns `x`, `y`, `loss` and `grad_norm`, a row for each point in order of steps.
        x, y: names of the columns of coordinates.
        window: the surface, which the path `stays_on_surface` or leaves.
    """
    moves = np.hypot(np.diff(path[x]), np.diff(path[y]))
    return {
        "largest_step": float(moves.max()),
        "at_update": int(moves.argmax()) + 1,
        "largest_gradient": float(path["grad_norm"].max()),
        "stays_on_surface": bool(np.all(window.contains(path[x], path[y]))),
        "final": [float(path[x][-1]), float(path[y][-1])],
        "late_loss": float(np.median(path["loss"][-(len(path["loss"]) // 4 + 1) :])),
    }


class Projection(NamedTuple):
    """An optimiser's path projected onto a plane, in float64."""

    coordinates: Float[np.ndarray, "steps directions"]  # along each direction
    distance: Float[np.ndarray, " steps"]  # from the plane


def project_path(path: PyTree, center: PyTree, directions: Sequence[PyTree]) -> Projection:
    """Return where the points of a path lie in a plane, and how far from it.

        (x, y) = argmin ||p - center - x d_1 - y d_2||,   distance = that minimum

    Args:
        path: parameters with a leading axis, `[steps, ...]`.
        center: parameters, a pytree.
        directions: two of them, or any number; they need be neither orthogonal nor of unit length.

    Raises:
        ValueError: the path or a direction has not the structure and shapes of `center`, or the
            directions are not linearly independent.
    """
    leaves = jax.tree.leaves(path)
    steps = len(leaves[0]) if leaves and np.ndim(leaves[0]) else 0
    check_like(path, jax.tree.map(lambda c: np.empty((steps, *np.shape(c))), center), "path")
    for i, direction in enumerate(directions):
        check_like(direction, center, f"directions[{i}]")
    moved = jax.tree.map(lambda p, c: _wide(p) - _wide(c), path, center)
    flat = [p.reshape(steps, math.prod(p.shape[1:])) for p in map(_real, jax.tree.leaves(moved))]
    points, basis = np.concatenate(flat, axis=1), np.stack([*map(_flat, directions)], axis=1)
    lengths = np.linalg.norm(basis, axis=0)
    unit = basis / np.where(lengths > 0, lengths, 1)
    if np.linalg.matrix_rank(unit) < len(directions):
        raise ValueError("directions must be linearly independent; got some that are not")
    along = np.linalg.lstsq(unit, points.T)[0].T
    return Projection(along / lengths, np.linalg.norm(points - along @ unit.T, axis=1))


def _flat(tree):
    return np.concatenate([_real(_wide(leaf)).ravel() for leaf in jax.tree.leaves(tree)])


def _wide(leaf):
    """Return an array as float64 or complex128."""
    leaf = np.asarray(leaf)
    return leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)


def _real(values):
    """Return the real and imaginary parts of complex values along a new last axis."""
    return np.stack([values.real, values.imag], -1) if np.iscomplexobj(values) else values
