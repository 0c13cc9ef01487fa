"""Products with kernels: dense, block-diagonal or diagonal, told apart by the number of axes.

    dense            [K, G*H]               v = a U
    block-diagonal   [N, K/N, G*H/N]        v = a U_n in each of N heads
    diagonal         [G*H]                  v_g = a * U_g, with K = H

K is the width of what is multiplied, G the number of gates, H the width of each. The blocks of the
G gates lie side by side along the last axis, within each head where there are heads.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

TIMES_KERNEL = "_times_kernel"  # the name by which the fast backward finds `matmul` in a jaxpr


def matmul(x: Array, kernel: Array, dtype: Any) -> Array:
    """Return `x @ kernel`, multiplied in `dtype` and accumulated in the kernel's own type.

    With `dtype=None` both are promoted to a common type, as everywhere in JAX.
    """
    return _times_kernel(x, kernel, dtype=dtype)


@functools.partial(jax.jit, static_argnames="dtype")
def _times_kernel(x, kernel, *, dtype):
    if dtype is None:
        return x @ kernel
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=kernel.dtype)


def product(a: Array, kernel: Array, gates: int, dtype: Any) -> tuple[Array, ...]:
    """Return `a [*batch, K]` times the kernel as a tuple of G arrays `[*batch, H]`."""
    if kernel.ndim == 1:
        return tuple(a * block for block in jnp.split(kernel, gates))
    if kernel.ndim == 2:
        return tuple(jnp.split(matmul(a, kernel, dtype), gates, axis=-1))
    blocks = jnp.split(_by_head(_heads(a, kernel), kernel, dtype), gates, axis=-1)
    return tuple(map(_side_by_side, blocks))


def transposed(kernel: Array) -> Array:
    """Return the kernel that `product_back` takes."""
    return kernel if kernel.ndim == 1 else jnp.swapaxes(kernel, -1, -2)


def product_back(blocks: Sequence[Array], kernel: Array, dtype: Any) -> Array:
    """Return cotangents of the G blocks times a transposed kernel, `[*batch, K]`."""
    if kernel.ndim == 1:
        weights = jnp.split(kernel, len(blocks))
        return functools.reduce(jnp.add, [d * w for d, w in zip(blocks, weights, strict=True)])
    if kernel.ndim == 2:
        return matmul(jnp.concatenate(blocks, axis=-1), kernel, dtype)
    packed = jnp.concatenate([_heads(block, kernel) for block in blocks], axis=-1)
    return _side_by_side(_by_head(packed, kernel, dtype))


def outer(a: Array, b: Array) -> Array:
    """Return the outer product a b^T of vectors `[..., K]` and `[..., M]`, `[..., K, M]`.

    The gradients of a product that is written as an einsum are products of matrices and vectors;
    those of a broadcast multiplication are sums over a short axis, which a CPU takes six times as
    long for. Precise also on a TPU.
    """
    return jnp.einsum("...k,...m->...km", a, b, precision="highest")


def width(kernel: Any, gates: int) -> int:
    """Return K, the width of what the kernel multiplies."""
    if kernel.ndim == 1:
        return kernel.shape[0] // gates
    return kernel.shape[0] if kernel.ndim == 2 else kernel.shape[0] * kernel.shape[1]


def _heads(a, kernel):
    heads = kernel.shape[0]
    return a.reshape(*a.shape[:-1], heads, a.shape[-1] // heads)


def _side_by_side(blocks):
    *batch, heads, size = blocks.shape
    return blocks.reshape(*batch, heads * size)


def _by_head(a, kernel, dtype):
    if dtype is None:
        return jnp.einsum("...nk,nkm->...nm", a, kernel)
    low = a.astype(dtype), kernel.astype(dtype)
    return jnp.einsum("...nk,nkm->...nm", *low, preferred_element_type=kernel.dtype)
