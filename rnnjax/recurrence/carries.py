"""Carries as lists of their floating leaves, and marks on the gradients that pass them.

Tangents and cotangents of a carry are lists of its floating or complex leaves, `[*batch, ...]`.
Carries may hold other leaves (a step counter, a random key); no gradient flows through those.

A complex entry z = x + i y has two real dimensions. Cotangents follow JAX's convention,
dL/dx - i dL/dy for a real L, whose modulus is the norm of the real gradient (dL/dx, dL/dy).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

PyTree = Any


def partition(tree: PyTree, like: PyTree = None) -> tuple[list[Any], Callable]:
    """Return the leaves of `tree` that are floating or complex in `like`, and `merge`.

    `merge(floats, rest)` returns a tree with `floats` in their places and the other leaves of
    `rest`, by default those of `tree`.
    """
    leaves, structure = jax.tree.flatten(tree)
    kinds = leaves if like is None else jax.tree.leaves(like)
    floating = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in kinds]

    def merge(floats, rest=tree):
        floats = iter(floats)
        pairs = zip(floating, jax.tree.leaves(rest), strict=True)
        return structure.unflatten([next(floats) if is_float else leaf for is_float, leaf in pairs])

    return [leaf for leaf, is_float in zip(leaves, floating, strict=True) if is_float], merge


@dataclasses.dataclass(frozen=True)
class RealLeaves:
    """Which leaves of a pytree are real floating arrays: takes them out and puts others in.

    Or those of another kind of type, such as `jnp.inexact`.
    """

    structure: Any
    real: tuple[bool, ...]

    @classmethod
    def of(cls, tree: PyTree, kind: Any = jnp.floating) -> "RealLeaves":
        """Return those of a pytree of arrays or shapes."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple(jnp.issubdtype(leaf.dtype, kind) for leaf in leaves))

    def split(self, tree: PyTree) -> tuple[list[Any], list[Any]]:
        """Return the real leaves of a tree of this structure, and the other ones."""
        leaves = self.structure.flatten_up_to(tree)
        pairs = list(zip(leaves, self.real, strict=True))
        return [leaf for leaf, real in pairs if real], [leaf for leaf, real in pairs if not real]

    def join(self, floats: Sequence[Any], others: Sequence[Any]) -> PyTree:
        """Undo `split`."""
        given = iter(others), iter(floats)
        return self.structure.unflatten([next(given[real]) for real in self.real])


def normalise(leaves: list[Array], batch_ndim: int) -> tuple[list[Array], Array]:
    """Return `leaves` scaled to a joint norm of one for each example, and that norm `[*batch]`."""
    length = norm(leaves, batch_ndim)
    safe = jnp.where(length > 0, length, 1)
    return [v / expand(safe, v) for v in leaves], length


def norm(leaves: list[Array], batch_ndim: int) -> Array:
    """Return the Euclidean norm over all but the leading axes, free of under- and overflow."""
    axes = [tuple(range(batch_ndim, v.ndim)) for v in leaves]
    peaks = [jnp.max(jnp.abs(v), axis, initial=0) for v, axis in zip(leaves, axes, strict=True)]
    peak = functools.reduce(jnp.maximum, peaks)
    zero = peak == 0
    safe = lax.stop_gradient(jnp.where(zero, 1, peak))  # any scale gives the same slope
    squares = sum(
        jnp.sum(jnp.abs(v / expand(safe, v)) ** 2, axis)
        for v, axis in zip(leaves, axes, strict=True)
    )
    # At zero the slope of the norm is set to zero, where that of the root would be NaN.
    return safe * jnp.sqrt(jnp.where(zero, 1, squares)) * ~zero


def expand(a: Array, like: Array) -> Array:
    """Append axes of one to `a [*batch]` until it broadcasts against `like [*batch, ...]`."""
    return a.reshape(a.shape + (1,) * (like.ndim - a.ndim))


def flatten(leaves: list[Array], batch_ndim: int) -> Array:
    """Return leaves `[*batch, ...]` side by side as real vectors `[*batch, N]`.

    A complex entry takes two places, its real part and then its imaginary part.
    """
    sizes = real_sizes(leaves, batch_ndim)
    flat = [
        _as_real(v).reshape(*v.shape[:batch_ndim], size)
        for v, size in zip(leaves, sizes, strict=True)
    ]
    return jnp.concatenate(flat, axis=-1)


def real_sizes(leaves: Iterable[Any], batch_ndim: int) -> list[int]:
    """Return the number of real dimensions of each leaf `[*batch, ...]` of one example."""
    return [math.prod(v.shape[batch_ndim:]) * (2 if jnp.iscomplexobj(v) else 1) for v in leaves]


def unflatten(flat: Array, like: list[Array], batch_ndim: int) -> list[Array]:
    """Undo `flatten`: the vectors `[..., *batch, N]` as leaves `[..., *batch, *shape]`."""
    ends = np.cumsum(real_sizes(like, batch_ndim))
    found = []
    for part, v in zip(jnp.split(flat, ends[:-1], axis=-1), like, strict=True):
        shape = *part.shape[:-1], *v.shape[batch_ndim:]
        if jnp.iscomplexobj(v):
            pairs = part.reshape(*shape, 2)
            found.append(lax.complex(pairs[..., 0], pairs[..., 1]).astype(v.dtype))
        else:
            found.append(part.reshape(shape).astype(v.dtype))
    return found


def _as_real(v):
    return jnp.stack([v.real, v.imag], axis=-1) if jnp.iscomplexobj(v) else v


def clip_gradient(leaves: list[Array], largest: Array, batch_ndim: int) -> list[Array]:
    """Return `leaves`; the gradient that passes back is scaled to a norm of at most `largest`."""
    return _clip(leaves, largest, batch_ndim)


def _clip_forward(leaves, largest, batch_ndim):
    del batch_ndim
    return leaves, largest


def _clip_backward(batch_ndim, largest, gradient):
    length = norm(gradient, batch_ndim)
    factor = jnp.minimum(1, largest / jnp.where(length > 0, length, 1))
    return [expand(factor, g).astype(g.dtype) * g for g in gradient], jnp.zeros_like(largest)


def probe_norm(leaves: list[Array], probe: Array, batch_ndim: int) -> list[Array]:
    """Return `leaves`; the gradient with respect to `probe [*batch]` is the norm of theirs."""
    return _probe(leaves, probe, batch_ndim)


def _probe_forward(leaves, probe, batch_ndim):
    del batch_ndim
    return leaves, probe


def _probe_backward(batch_ndim, probe, gradient):
    return gradient, norm(gradient, batch_ndim).astype(probe.dtype)


def _unchanged(leaves, _, batch_ndim):
    del batch_ndim
    return leaves


_clip: Any = jax.custom_vjp(_unchanged, nondiff_argnums=(2,))
_clip.defvjp(_clip_forward, _clip_backward)
_probe: Any = jax.custom_vjp(_unchanged, nondiff_argnums=(2,))
_probe.defvjp(_probe_forward, _probe_backward)
