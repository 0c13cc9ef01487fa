"""QR factorisations of K vectors for each example, and their derivative.

The vectors are a list of leaves `[K, *batch, ...]` or, flat, `[K, *batch, N]`. In this layout a
single matmul applies to all of them.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.recurrence.carries import norm

AT_ONCE = 16  # largest number of vectors orthonormalised in one block, without the whole R
BLOCK = 8  # block size otherwise: larger blocks compile slowly
PASSES = 3  # further passes where vectors are nearly parallel


def orthonormalise(vectors: Array) -> tuple[Array, Array]:
    """Return Q `[K, *batch, N]` and the diagonal of R `[*batch, K]` of `factorise`."""
    if vectors.shape[0] > AT_ONCE:
        q, r = factorise(vectors)
        return q, _diagonal(r)
    # One pass mostly suffices, and assembling the rest of R would double its time.
    scaled, peaks, least = _scaled(vectors, _rounding(vectors))
    q, columns = _columns(scaled, least)
    growth = jnp.stack([column[-1] for column in columns], axis=-1)

    def with_care(*_):
        q, r = factorise(scaled)
        return q, _diagonal(r)

    q, growth = lax.cond(_any_close(scaled, growth), with_care, lambda *a: a, q, growth)
    return q, growth * jnp.moveaxis(peaks, 0, -1)


@jax.custom_jvp
def factorise(vectors: Array) -> tuple[Array, Array]:
    """Return Q `[K, *batch, N]` and R `[*batch, K, K]` of a QR factorisation.

        v_j = sum over i <= j of R_ij q_i,   R_jj >= 0

    Modified Gram-Schmidt, one column after another. LAPACK is several times slower on small batched
    matrices, and its batched QR deadlocks where two CPU devices call it at once (their threads wait
    for each other). R is as accurate as Householder's (Bjorck 1967). Where vectors are nearly
    parallel, more passes make Q as accurate, too (Giraud et al. 2005, "The loss of orthogonality in
    the Gram-Schmidt orthogonalization process"). They also make an R_jj far below eps right where
    the entries of all vectors differ in scale in the same way, as behind saturated units. A vector
    whose remainder is only rounding, entry by entry, depends on those before it: its q and R_jj
    are zero.

    Its derivative is that of V = Q R in closed form, with S the part of Q^T dV R^{-1} below the
    diagonal:

        dQ = Q (S - S^T - Q^T dV R^{-1}) + dV R^{-1},   dR = (Q^T dV R^{-1} - S + S^T) R

    A q that is zero stays so.
    """
    return _factors(vectors, _rounding(vectors))


@factorise.defjvp
def _factorise_jvp(primals, tangents):
    q, found = factorise(*primals)
    rows, change = (jnp.moveaxis(a, 0, -2) for a in (q, *tangents))  # [*batch, K, N]
    alive = _diagonal(found) > 0
    unit = jnp.broadcast_to(jnp.eye(found.shape[-1], dtype=found.dtype), found.shape)
    r = found + jnp.where(alive, 0, 1)[..., None] * unit
    inverse = back_substitution(r, unit)
    change = jnp.swapaxes(inverse, -1, -2) @ change
    inner = rows @ jnp.swapaxes(change, -1, -2)
    below = jnp.tril(inner, -1)
    kept = inner - below + jnp.swapaxes(below, -1, -2)
    turned = jnp.where(alive[..., None], change - jnp.swapaxes(kept, -1, -2) @ rows, 0)
    return (q, found), (jnp.moveaxis(turned, -2, 0), kept @ r)


def back_substitution(r: Array, c: Array) -> Array:
    """Return R^{-1} C, for upper triangular R `[*batch, K, K]` and C `[*batch, K, M]`."""
    count = r.shape[-1]

    def row(i, x):
        i = count - 1 - i
        above = lax.dynamic_index_in_dim(r, i, -2)  # [*batch, 1, K]; rows of x up to i are zero
        known = lax.dynamic_index_in_dim(c, i, -2) - above @ x
        return lax.dynamic_update_slice_in_dim(
            x, known / lax.dynamic_index_in_dim(above, i, -1), i, -2
        )

    return lax.fori_loop(0, count, row, jnp.zeros_like(c))


def basis(vectors: Array) -> Array:
    """Return an orthonormal basis Q `[K, *batch, N]` of the vectors, the first of them first.

    A vector that depends on those before it has the direction of its rounding error; only if its
    remainder is exactly zero is its q zero.
    """
    return _factors(vectors, 0)[0]


def _rounding(vectors):
    return 4 * vectors.shape[0] ** 0.5 * jnp.finfo(vectors.dtype).eps


def _scaled(vectors, rounding):
    """Return vectors scaled to largest entries of 1, the scales, and `least [*batch, N]`.

    The scaling keeps squares from underflowing. Remainders not above `least` count as zero.
    """
    peaks = lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1))
    vectors = vectors / jnp.where(peaks > 0, peaks, 1)[..., None]
    return vectors, peaks, rounding * jnp.max(jnp.abs(vectors), axis=0)


def _factors(vectors, rounding):
    """Return Q and R; remainders up to `rounding`, entry by entry, count as zero."""
    vectors, peaks, least = _scaled(vectors, rounding)
    if vectors.shape[0] > BLOCK:
        q, r = _by_blocks(vectors, least)
    else:
        nothing = jnp.zeros((*vectors.shape[1:-1], 0, vectors.shape[-1]), vectors.dtype)
        q, _, r = _beyond(nothing, vectors, least)
    return q, r * jnp.moveaxis(peaks, 0, -1)[..., None, :]


def _by_blocks(vectors, least):
    """Return Q and R, computed block by block."""
    count = vectors.shape[0]
    blocks = -(-count // BLOCK)
    vectors = jnp.pad(vectors, [(0, blocks * BLOCK - count)] + [(0, 0)] * (vectors.ndim - 1))

    def one(i, state):
        q, r = state
        block = lax.dynamic_slice_in_dim(vectors, i * BLOCK, BLOCK)
        block, above, corner = _beyond(q, block, least)
        above = lax.dynamic_update_slice_in_dim(above, corner, i * BLOCK, -2)
        r = lax.dynamic_update_slice_in_dim(r, above, i * BLOCK, -1)
        block = jnp.moveaxis(block, 0, -2)
        return lax.dynamic_update_slice_in_dim(q, block, i * BLOCK, -2), r

    q = jnp.zeros((*vectors.shape[1:-1], blocks * BLOCK, vectors.shape[-1]), vectors.dtype)
    r = jnp.zeros((*q.shape[:-1], blocks * BLOCK), vectors.dtype)
    q, r = lax.fori_loop(0, blocks, one, (q, r))
    return jnp.moveaxis(q, -2, 0)[:count], r[..., :count, :count]


def _beyond(before, vectors, least):
    """Return Q of the vectors' components orthogonal to `before [*batch, M, N]`, and R.

    The vectors of Q are orthonormal or zero. R has two parts: the components along `before`,
    `[*batch, M, K]`, and along Q, `[*batch, K, K]`.
    """

    def once(vectors, least):
        along = before @ jnp.moveaxis(vectors, 0, -1)
        rest = vectors - jnp.moveaxis(jnp.swapaxes(along, -1, -2) @ before, -2, 0)
        q, corner = _gram_schmidt(rest, least)
        return q, along, corner

    def more(q, above, corner):
        def once_more(state, _):
            q, above, corner = state
            q, along, again = once(q, 0)
            return (q, above + along @ corner, again @ corner), _diagonal(again)

        (q, above, corner), kept = lax.scan(once_more, (q, above, corner), length=PASSES)
        alive = kept[-1] > 0.5
        q = jnp.where(jnp.moveaxis(alive, -1, 0)[..., None], q, 0)
        return q, above, jnp.where(alive[..., None], corner, 0)

    q, above, corner = once(vectors, least)
    close = _any_close(vectors, _diagonal(corner))
    return lax.cond(close, more, lambda *a: a, q, above, corner)


def _any_close(vectors, growth):
    """Return whether a vector lies within a hundredth of the span of those before it."""
    return jnp.any((growth < 0.01 * jnp.moveaxis(length_of(vectors), 0, -1)) & (growth > 0))


def _gram_schmidt(vectors, least):
    """Return Q and R of one pass; remainders up to `least [*batch, N]` count as zero."""
    q, columns = _columns(vectors, least)
    zero = jnp.zeros_like(columns[0][0])
    full = [jnp.stack([*c, *[zero] * (len(columns) - len(c))], axis=-1) for c in columns]
    return q, jnp.stack(full, axis=-1)


def _columns(vectors, least):
    """Return Q, and the columns of R down to the diagonal: a list of lists of `[*batch]`."""
    unit: list[Array] = []
    columns: list[list[Array]] = []
    for j in range(vectors.shape[0]):
        rest, column = vectors[j], []
        for q in unit:
            along = jnp.sum(q * rest, axis=-1)
            rest = rest - along[..., None] * q
            column.append(along)
        alive = jnp.any(jnp.abs(rest) > least, axis=-1, keepdims=True)
        rest = jnp.where(alive, rest, 0)
        length = length_of(rest)
        unit.append(rest / jnp.where(length > 0, length, 1)[..., None])
        columns.append([*column, length])
    return jnp.stack(unit), columns


def length_of(vectors: Array) -> Array:
    """Return the norms along the last axis, free of under- and overflow."""
    return norm([vectors], vectors.ndim - 1)


def _diagonal(r):
    return jnp.diagonal(r, axis1=-2, axis2=-1)
