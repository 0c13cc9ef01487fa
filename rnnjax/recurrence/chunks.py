"""Time in chunks: the loop over them, and the arrays that a step reads and writes.

`allow_negative_indices=False` spares each index a comparison and a select.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Chunks:
    """T steps in processing order, in chunks of `size`.

    Where `size` does not divide T, the last chunk starts early and skips the steps already done.
    """

    total: int
    size: int
    reverse: bool

    @classmethod
    def at_most(cls, size: int, total: int, reverse: bool) -> "Chunks":
        """Return chunks of at most `size`, a size that divides T if one is not far below."""
        size = min(size, total)
        size = next((k for k in range(size, size // 2, -1) if total % k == 0), size)
        return cls(total, size, reverse)

    def each(self, one: Callable, loop: PyTree, *, backwards: bool = False) -> PyTree:
        """Do `loop = one(start, skip, loop)` for each chunk; `skip` of its steps are done."""
        if self.size == self.total:
            return one(0, 0, loop)
        count, left = divmod(self.total, self.size)

        def body(c, loop):
            c = count + bool(left) - 1 - c if backwards else c
            if not left:
                return one(c * self.size, 0, loop)
            start = jnp.minimum(c * self.size, self.total - self.size)
            return one(start, c * self.size - start, loop)

        return lax.fori_loop(0, count + bool(left), body, loop)

    def row(self, k: Any) -> Any:
        """Return the row of step k in the chunk's arrays, which are in input order."""
        return self.size - 1 - k if self.reverse else k

    def base(self, start: Any) -> Any:
        """Return where the arrays of a chunk begin in those of all T steps."""
        return self.total - self.size - start if self.reverse else start


class Kept:
    """Arrays kept at each step, stacked if they have the same shape and type: one write for each.

    Args:
        shapes: of one step's arrays.
    """

    def __init__(self, shapes: Sequence[Any]):
        self.shapes = shapes
        self.places: dict[Any, list[int]] = {}
        for i, like in enumerate(shapes):
            self.places.setdefault((like.shape, like.dtype), []).append(i)

    def blank(self, steps: int) -> list[Array]:
        """Return zeros for `steps` steps, `[steps, n, ...]` for each stack."""
        return [
            jnp.zeros((steps, len(where), *shape), dtype)
            for (shape, dtype), where in self.places.items()
        ]

    def pack(self, values: Sequence[Any]) -> list[Array]:
        """Return one step's arrays, stacked."""
        return [jnp.stack([values[i] for i in where]) for where in self.places.values()]

    def pack_steps(self, values: Sequence[Any], steps: int) -> list[Array]:
        """Return the arrays of many steps, `[steps, ...]` each or the same for all, stacked."""

        def full(i):
            shape = steps, *self.shapes[i].shape
            return jnp.broadcast_to(values[i], shape)

        return [jnp.stack([full(i) for i in where], 1) for where in self.places.values()]

    def at(self, stacks: Sequence[Any], t: Any) -> list[Any]:
        """Return the arrays of step t, read one by one: slices of one piece do not vectorise."""
        values: list[Any] = [None] * len(self.shapes)
        for stack, where in zip(stacks, self.places.values(), strict=True):
            shape = stack.shape[2:]
            for n, i in enumerate(where):
                values[i] = lax.dynamic_slice(
                    stack,
                    (t, n, *(0 for _ in shape)),
                    (1, 1, *shape),
                    allow_negative_indices=False,
                ).reshape(shape)
        return values


def rows(tree: PyTree, start: Any, size: int) -> PyTree:
    """Return `size` entries of the leading axis, from `start` on."""

    def cut(a):
        if a.shape[0] == size:
            return a
        return lax.dynamic_slice_in_dim(a, start, size, allow_negative_indices=False)

    return jax.tree.map(cut, tree)


def at(tree: PyTree, t: Any) -> PyTree:
    """Return entry t of the leading axis."""
    return jax.tree.map(
        lambda a: lax.dynamic_index_in_dim(a, t, keepdims=False, allow_negative_indices=False), tree
    )


def put(tree: PyTree, values: PyTree, t: Any, size: int | None = None) -> PyTree:
    """Write entry t of the leading axis, or `size` of them from t on."""

    def write(a, value):
        if a.shape == value.shape:
            return value.astype(a.dtype)
        value = value.astype(a.dtype) if size else value.astype(a.dtype)[None]
        return lax.dynamic_update_slice(
            a, value, (t,) + (0,) * (a.ndim - 1), allow_negative_indices=False
        )

    return jax.tree.map(write, tree, values)
