"""Linear recurrences s' = a s + b over all time steps at once, by associative scan.

    (a_2, b_2) after (a_1, b_1)  =  (a_2 a_1, a_2 b_1 + b_2)

T such pairs take O(log T) operations one after the other. Complex numbers are pairs of reals here:
XLA takes several times as long to compile a scan of complex ones.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.linear import Linear
from rnnjax.recurrence.carries import probe_norm
from rnnjax.recurrence.steps import Now

PyTree = Any


def scan_linear(
    cell: Linear,
    ready: PyTree,
    carry: PyTree,
    xs: PyTree,
    now: Now,
    shared: tuple[PyTree, Any],
    *,
    batch_ndim: int,
    reverse: bool,
) -> tuple[PyTree, PyTree]:
    """Return the final carry and the carries after each step, leaves `[T, *batch, ...]`.

    The options keep the recurrence linear. A step begins at s plus its perturbation; at a cut at
    the same number, without its gradient; at a reset at the reset carry. A step that is not taken
    ends where it begins.
    """
    total = jax.tree.leaves(xs)[0].shape[0]
    starts, structure = jax.tree.flatten(carry)
    if not total:
        return carry, structure.unflatten([jnp.zeros((0, *s.shape), s.dtype) for s in starts])
    columns = [starts, *map(structure.flatten_up_to, cell.coefficients(ready, xs))]
    pairs = [_over_time(s, a, b, total) for s, a, b in zip(*columns, strict=True)]
    # A state that keeps nothing is b itself, at every step that is taken.
    anew_each_step = [now.valid is None and isinstance(a, float) and a == 0 for a in columns[1]]
    if now.valid is not None:
        pairs = [(_where(now.valid, a, 1, b), _where(now.valid, b, 0, b)) for a, b in pairs]
    added = _added(now, structure, pairs, batch_ndim)
    resets = None if now.reset is None else structure.flatten_up_to(shared[0])
    first, last = (-1, 0) if reverse else (0, -1)

    def states(starts, pairs, added, resets, at_cuts):
        found = []
        for i, (s, (a, b)) in enumerate(zip(starts, pairs, strict=True)):
            if anew_each_step[i]:
                found.append(b)
                continue
            begins = None if added is None else added[i]  # s_in = begins, or s + begins
            anew = None  # where s is not part of it
            if at_cuts is not None:
                begins, anew = _where(now.cut, at_cuts[i], begins, b), now.cut
            if resets is not None:
                begins = _where(now.reset, resets[i], begins, b)
                anew = now.reset if anew is None else anew | now.reset
            if begins is not None:
                b = b + a * begins
            if anew is not None:
                a = _where(anew, 0, a, b)
            found.append(linear_scan(a, b.at[first].add(a[first] * s), reverse))
        return found

    given, at_cuts = (starts, pairs, added, resets), None
    if now.cut is not None:
        values = states(*lax.stop_gradient(given), None)
        at_cuts = [_shifted(v, s, reverse) for v, s in zip(values, starts, strict=True)]
        if added is not None:
            at_cuts = [s + p for s, p in zip(at_cuts, added, strict=True)]
        at_cuts = lax.stop_gradient(at_cuts)
    found = states(*given, at_cuts)
    return structure.unflatten([s[last] for s in found]), structure.unflatten(found)


def _over_time(s, a, b, total):
    """Return a and b with a leading T, in the type of the state; a may have axes of one."""
    a, shape = jnp.asarray(a, s.dtype), (total, *s.shape)
    a = a.reshape((1,) * (len(shape) - a.ndim) + a.shape)
    b = jnp.broadcast_to(jnp.asarray(b, s.dtype), shape)
    return jnp.broadcast_to(a, (total, *a.shape[1:])), b


def _where(flags, new, old, like):
    """Choose by flags `[T, *batch]` between what broadcasts to `like`; None is zero."""
    flags = flags.reshape(flags.shape + (1,) * (like.ndim - flags.ndim))
    return jnp.where(flags, new, 0 if old is None else old).astype(like.dtype)


def _added(now, structure, pairs, batch_ndim):
    """Return what perturbations and probe add to the states that enter, or None for nothing."""
    terms = [b for _, b in pairs]
    added = None
    if now.perturbation is not None:
        leaves = structure.flatten_up_to(now.perturbation)
        added = [p.astype(b.dtype) for p, b in zip(leaves, terms, strict=True)]
    if now.probe is not None:
        nothing = probe_norm([jnp.zeros_like(b) for b in terms], now.probe, batch_ndim + 1)
        added = nothing if added is None else [p + q for p, q in zip(added, nothing, strict=True)]
    return added


def _shifted(values, start, reverse):
    """Return the states that enter each step, of those after each and the first."""
    parts = [values[1:], start[None]] if reverse else [start[None], values[:-1]]
    return jnp.concatenate(parts)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def linear_scan(a: Array, b: Array, reverse: bool = False) -> Array:
    """Return s with s_t = a_t s_{t-1} + b_t along the leading axis, from s = 0.

    Args:
        a: `[T, ...]`, broadcasts to `b`.
        b: `[T, ...]`.
        reverse: from the last step to the first.
    """
    if not jnp.iscomplexobj(b):
        return lax.associative_scan(_after, (a, b), reverse=reverse)[1]
    parts = a.real, a.imag, b.real, b.imag
    return lax.complex(*lax.associative_scan(_complex_after, parts, reverse=reverse)[2:])


@linear_scan.defjvp
def _tangent(reverse, primals, tangents):
    (a, b), (da, db) = primals, tangents
    s = linear_scan(a, b, reverse)
    before = _shifted(s, jnp.zeros_like(s[0]), reverse)
    return s, linear_scan(a, da * before + db, reverse)


def _after(first, second):
    (a, b), (c, d) = first, second
    return c * a, c * b + d


def _complex_after(first, second):
    (ar, ai, br, bi), (cr, ci, dr, di) = first, second
    product = cr * ar - ci * ai, cr * ai + ci * ar
    return *product, cr * br - ci * bi + dr, cr * bi + ci * br + di
