"""The Jacobian of a step in blocks: one dense block, one for each unit, or its diagonal alone."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.cells.kernels import product
from rnnjax.recurrence.carries import flatten, unflatten
from rnnjax.recurrence.jaxprs import unitwise

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How the N real numbers of a state lie in U blocks of k.

    `dense`: one block of N. `units`: all leaves are `[*batch, H]`, and each of H blocks has one
    number of every leaf, the real and the imaginary part of a complex one apart. `diagonal`: N
    blocks of one number.
    """

    kind: Literal["dense", "units", "diagonal"]
    ndim: int  # of the leading axes, time and batch

    def split(self, leaves: list[Array]) -> Array:
        """Return leaves `[T, *batch, ...]` as `[T, *batch, U, k]`."""
        if self.kind != "units":
            flat = flatten(leaves, self.ndim)
            return flat[..., None, :] if self.kind == "dense" else flat[..., None]
        parts = [p for v in leaves for p in ((v.real, v.imag) if jnp.iscomplexobj(v) else (v,))]
        return jnp.stack(parts, axis=-1)

    def join(self, blocks: Array, like: list[Any]) -> list[Array]:
        """Undo `split`."""
        if self.kind == "units":
            found, parts = [], iter(jnp.moveaxis(blocks, -1, 0))
            for v in like:
                part = next(parts)
                whole = jax.lax.complex(part, next(parts)) if jnp.iscomplexobj(v) else part
                found.append(whole.astype(v.dtype))
            return found
        return unflatten(blocks.reshape(*blocks.shape[:-2], -1), like, self.ndim)

    def jacobian(self, step: Callable, entering: list[Array]) -> Array:
        """Return the blocks `[T, *batch, U, k, k]` of the derivative of `step`, leaves to leaves.

        The derivative must have no entries outside of the blocks.
        """
        push = jax.linearize(step, entering)[1]
        like = self.split(entering)
        basis = jnp.eye(like.shape[-1], dtype=like.dtype)
        basis = basis.reshape(like.shape[-1], *(1 for _ in like.shape[:-1]), like.shape[-1])
        basis = jnp.broadcast_to(basis, (like.shape[-1], *like.shape))

        def column(vector):
            return self.split(push(self.join(vector, entering)))

        return jnp.moveaxis(jax.vmap(column)(basis), 0, -1)


def of_units(step: Callable, entering: list[Array]) -> bool:
    """Return whether every unit of a state depends only on itself in a step, leaves to leaves."""
    shapes = {v.shape for v in entering}
    if len(shapes) != 1:
        return False
    return unitwise(jax.make_jaxpr(step)(entering).jaxpr)


def exact_blocks(step: Callable, entering: list[Array], ndim: int) -> Blocks:
    """Return the smallest blocks that are known to hold all of a step's derivative."""
    return Blocks("units" if of_units(step, entering) else "dense", ndim)


def diagonal_kernel(cell: Cell, ready: PyTree) -> Any:
    """Return the diagonals of a gated cell's recurrent kernel, `[G*H]`, one gate after the other.

    None where there are none: the cell is not gated, or what it multiplies is not H wide.
    """
    if not isinstance(cell, GatedStep) or not is_gated(cell):
        return None
    kernel, gates = cell.recurrent_kernel(ready), len(cell.gate_names)
    if kernel.ndim == 1:
        return kernel
    blocks = jnp.split(kernel, gates, axis=-1)
    if blocks[0].shape[-1] != blocks[0].shape[-2]:
        return None
    return jnp.concatenate(
        [jnp.diagonal(block, axis1=-2, axis2=-1).reshape(-1) for block in blocks]
    )


def with_diagonal(
    cell: GatedStep, ready: PyTree, kernel: Array, v: tuple[Array, ...], carry: Any, u: Any
) -> Any:
    """Return the next carry; its derivative takes the recurrent kernel for its diagonal.

    v is the recurrent product of the carry, so the value is that of `cell.step`.
    """
    own = product(cell.recurrent_input(carry, u), kernel, len(cell.gate_names), cell.dtype)
    v = tuple(a + (b - jax.lax.stop_gradient(b)) for a, b in zip(v, own, strict=True))
    return cell.next_carry(cell.elementwise(ready), carry, u, v)


def diagonal_of(blocks: Array) -> Array:
    """Return the diagonal of dense blocks `[..., 1, N, N]` as N blocks of one, `[..., N, 1, 1]`."""
    return jnp.diagonal(blocks[..., 0, :, :], axis1=-2, axis2=-1)[..., None, None]
