"""Long products of Jacobians in log space: orthogonal factors and graded triangular ones.

The K vectors of each example are a list of leaves `[K, *batch, ...]` or, flat, `[K, *batch, N]`. In
this layout a single matmul applies to all of them.

More than 300 lines, because a factorisation, its derivative and the products of its factors share
this layout and what they count as rounding.
"""

from typing import NamedTuple

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


class Graded(NamedTuple):
    """A square matrix whose rows may differ by any power: `exp(logs)[:, None] * rows`."""

    logs: Array  # [*batch, K]
    rows: Array  # [*batch, K, K], of norm one, or zero
    lost: Array  # [*batch, K], the rounding error of the logs


def identity(batch: tuple[int, ...], count: int, dtype) -> Graded:
    """Return the identity matrix for each example."""
    rows = jnp.broadcast_to(jnp.eye(count, dtype=dtype), (*batch, count, count))
    zero = jnp.zeros((*batch, count), dtype)
    return Graded(zero, rows, zero)


def multiply(r: Array, matrix: Graded) -> Graded:
    """Return `r @ matrix` for upper triangular `r [*batch, K, K]`.

    Sums of logs are compensated (Kahan 1965), because thousands of roundings of one sign add up.
    """
    apart = jnp.where(matrix.logs == -jnp.inf, 0, matrix.logs)
    logs = jnp.log(jnp.abs(r)) + (matrix.logs[..., None, :] - apart[..., :, None])
    peak = jnp.max(logs, axis=-1)
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    rows, growth = _unit((jnp.sign(r) * jnp.exp(logs - peak[..., None])) @ matrix.rows)
    change = peak + growth - matrix.lost
    total = apart + change
    lost = jnp.where(jnp.isfinite(total), (total - apart) - change, 0)
    return Graded(total, rows, lost)


def log_singular_values(matrix: Graded) -> Array:
    """Return ln of the singular values of a graded matrix, descending, `[*batch, K]`.

    One-sided Jacobi on its rows. A rotation of rows i and j of lengths e^l_i >= e^l_j makes them
    orthogonal. The length of the shorter one is computed from a difference of unit vectors, not
    from numbers as far apart as the lengths, so small values keep their relative accuracy (Demmel &
    Veselic 1992, "Jacobi's method is more accurate than QR").
    """
    count = matrix.logs.shape[-1]
    half = (count + 1) // 2
    spare = 2 * half - count  # rows are rotated in pairs
    ndim = matrix.logs.ndim
    logs = jnp.pad(
        matrix.logs - matrix.lost, [(0, 0)] * (ndim - 1) + [(0, spare)], constant_values=-jnp.inf
    )
    rows = jnp.pad(matrix.rows, [(0, 0)] * (ndim - 1) + [(0, spare), (0, 0)])
    tolerance = 4 * jnp.finfo(rows.dtype).eps * count

    def turn(_, state):
        """Rotate row i with row half + i, then form new pairs."""
        (logs, rows), largest = state
        first = logs[..., :half], rows[..., :half, :]
        second = logs[..., half:], rows[..., half:, :]
        first, second, cosine = _rotate(first, second)
        matrix = _pair_anew(first[0], second[0], -1), _pair_anew(first[1], second[1], -2)
        return matrix, jnp.maximum(largest, jnp.max(jnp.abs(cosine), initial=0))

    def sweep(state):
        matrix, _, number = state
        start = matrix, jnp.zeros((), rows.dtype)
        matrix, largest = lax.fori_loop(0, 2 * half - 1, turn, start)
        return matrix, largest, number + 1

    def unfinished(state):
        return (state[1] > tolerance) & (state[2] < 30)

    start = (logs, rows), jnp.asarray(jnp.inf, rows.dtype), 0
    logs, _ = lax.while_loop(unfinished, sweep, start)[0]
    return -jnp.sort(-logs, axis=-1)[..., :count]


def _rotate(a, b):
    """Make pairs of rows (logs, rows) orthogonal; return them and the cosines of their angles."""
    swap = a[0] < b[0]
    (long, long_row), (short, short_row) = _swapped(swap, a, b)
    gap = jnp.where(short == -jnp.inf, -jnp.inf, short - long)
    cosine, ratio = jnp.sum(long_row * short_row, axis=-1), jnp.exp(gap)
    difference = -jnp.expm1(2 * gap)
    root = difference + jnp.sqrt(4 * cosine**2 * ratio**2 + difference**2)
    tau = jnp.where(root > 0, 2 * cosine / jnp.where(root > 0, root, 1), jnp.sign(cosine))
    tangent = (tau * ratio)[..., None]  # of the angle to turn by
    shrink = 1 / jnp.sqrt(1 + tangent**2)
    longer, more = _unit(shrink * (long_row + tangent * ratio[..., None] * short_row))
    shorter, less = _unit(shrink * (short_row - tau[..., None] * long_row))
    a, b = _swapped(swap, (long + more, longer), (short + less, shorter))
    return a, b, jnp.where(jnp.isfinite(gap), cosine, 0)


def _swapped(swap, a, b):
    """Return a and b, or b and a where `swap`."""
    rows = swap[..., None]
    first = jnp.where(swap, b[0], a[0]), jnp.where(rows, b[1], a[1])
    second = jnp.where(swap, a[0], b[0]), jnp.where(rows, a[1], b[1])
    return first, second


def _unit(rows):
    """Return the rows scaled to norm one, and the logs of their norms; zero rows have -inf."""
    length = jnp.linalg.norm(rows, axis=-1)
    return rows / jnp.where(length > 0, length, 1)[..., None], jnp.log(length)


def _pair_anew(first, second, axis):
    """Move all rows but the first by one place (round robin): 2 half - 1 moves form all pairs."""
    first, second = (jnp.moveaxis(a, axis, 0) for a in (first, second))
    parts = first[:1], second[:1], first[1:-1], second[1:], first[1:][-1:]
    return jnp.moveaxis(jnp.concatenate(parts), 0, axis)
