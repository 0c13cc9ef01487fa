"""Long products of Jacobians in log space: orthogonal factors and graded triangular ones.

K vectors for each example are a list of leaves `[K, *batch, ...]` or, flat, `[K, *batch, N]`; in
this layout one matmul serves them all.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

UNROLLED = 16  # more vectors than this are taken in blocks
BLOCK = 8


def orthonormalise(vectors: Array) -> tuple[Array, Array]:
    """Return Q `[K, *batch, N]` and the diagonal of R `[*batch, K]` of a QR factorisation.

        v_j = sum over i <= j of R_ij q_i,   R_jj >= 0

    By modified Gram-Schmidt, one column after another. LAPACK is several times slower on small
    batched matrices, and its batched QR deadlocks where two CPU devices call it at once (their
    threads wait for each other's). R is as good as Householder's (Bjorck 1967); where columns are
    nearly parallel a second pass makes Q as good, too (Giraud et al. 2005, "The loss of
    orthogonality in the Gram-Schmidt orthogonalization process"). A vector of which nothing but
    rounding is left depends on those before it: its q and R_jj are zero.
    """
    vectors, peaks = _scaled(vectors)
    if vectors.shape[0] > UNROLLED:
        q, r = _by_blocks(vectors)
        return q, jnp.diagonal(r, axis1=-2, axis2=-1) * peaks
    q, columns = _gram_schmidt(vectors, _least(vectors))

    def once_more(q, growth):
        q, columns = _gram_schmidt(q, _least(q))
        return q, growth * _diagonal(columns)

    unchanged = _diagonal(columns)
    q, growth = lax.cond(_parallel(columns), once_more, lambda *a: a, q, unchanged)
    return q, growth * peaks


def factorise(vectors: Array) -> tuple[Array, Array]:
    """Return Q and the whole of R `[*batch, K, K]`, upper triangular, as `orthonormalise` does."""
    vectors, peaks = _scaled(vectors)
    by = _by_blocks if vectors.shape[0] > UNROLLED else _at_once
    q, r = by(vectors)
    return q, r * peaks[..., None, :]


def _at_once(vectors, least=None):
    q, columns = _gram_schmidt(vectors, _least(vectors) if least is None else least)

    def once_more(q, r):
        q, columns = _gram_schmidt(q, _least(q))
        return q, _triangular(columns) @ r

    unchanged = _triangular(columns)
    return lax.cond(_parallel(columns), once_more, lambda *a: a, q, unchanged)


def _by_blocks(vectors):
    """Return Q and R, some columns at a time; each block is projected twice on those before it."""
    count, least = vectors.shape[0], _least(vectors)
    blocks = -(-count // BLOCK)
    spare = [(0, blocks * BLOCK - count)] + [(0, 0)] * (vectors.ndim - 1)
    vectors, least = jnp.pad(vectors, spare), jnp.pad(least, spare[:-1])

    batch_first = jnp.moveaxis(vectors, 0, -2)  # as batched products like it

    def one(i, state):
        q, r = state
        rest = lax.dynamic_slice_in_dim(batch_first, i * BLOCK, BLOCK, -2)
        above = jnp.zeros((*r.shape[:-1], BLOCK), r.dtype)  # of R's columns
        for _ in range(2):
            along = q @ jnp.swapaxes(rest, -1, -2)
            rest = rest - jnp.swapaxes(along, -1, -2) @ q
            above = above + along
        least_here = lax.dynamic_slice_in_dim(least, i * BLOCK, BLOCK)
        block, corner = _at_once(jnp.moveaxis(rest, -2, 0), least_here)
        above = lax.dynamic_update_slice_in_dim(above, corner, i * BLOCK, -2)
        r = lax.dynamic_update_slice_in_dim(r, above, i * BLOCK, -1)
        block = jnp.moveaxis(block, 0, -2)
        return lax.dynamic_update_slice_in_dim(q, block, i * BLOCK, -2), r

    r = jnp.zeros((*vectors.shape[1:-1], blocks * BLOCK, blocks * BLOCK), vectors.dtype)
    q, r = lax.fori_loop(0, blocks, one, (jnp.zeros_like(batch_first), r))
    return jnp.moveaxis(q, -2, 0)[:count], r[..., :count, :count]


def _scaled(vectors):
    """Return the vectors over their largest entries, lest squares underflow, and those."""
    peaks = jnp.max(jnp.abs(vectors), axis=-1)
    return vectors / jnp.where(peaks > 0, peaks, 1)[..., None], jnp.moveaxis(peaks, 0, -1)


def _least(vectors):
    """Return the lengths `[K, *batch]` below which what is left of the vectors is rounding."""
    rounding = 4 * vectors.shape[0] ** 0.5 * jnp.finfo(vectors.dtype).eps
    return rounding * jnp.sqrt(jnp.sum(vectors**2, axis=-1))


def _gram_schmidt(vectors, least):
    """Return Q and the columns of R down to the diagonal: a list of lists of `[*batch]`."""
    unit: list[Array] = []
    columns: list[list[Array]] = []
    for j in range(vectors.shape[0]):
        rest, column = vectors[j], []
        for q in unit:
            along = jnp.sum(q * rest, axis=-1)
            rest = rest - along[..., None] * q
            column.append(along)
        length = jnp.sqrt(jnp.sum(rest**2, axis=-1))
        alive = length > least[j]
        length = jnp.where(alive, length, 0)
        unit.append(jnp.where(alive[..., None], rest / jnp.where(alive, length, 1)[..., None], 0))
        columns.append([*column, length])
    return jnp.stack(unit), columns


def _diagonal(columns):
    return jnp.stack([column[-1] for column in columns], axis=-1)


def _triangular(columns):
    zero = jnp.zeros_like(columns[0][0])
    full = [jnp.stack([*c, *[zero] * (len(columns) - len(c))], axis=-1) for c in columns]
    return jnp.stack(full, axis=-1)


def _parallel(columns):
    """Return whether a vector lies within a hundredth of the span of those before it."""
    lengths = [jnp.sqrt(sum(entry**2 for entry in column)) for column in columns]
    close = [(c[-1] < 0.01 * n) & (c[-1] > 0) for c, n in zip(columns, lengths, strict=True)]
    return jnp.any(jnp.stack(close))


class Graded(NamedTuple):
    """A square matrix whose rows may differ by any power: `exp(logs)[:, None] * rows`."""

    logs: Array  # [*batch, K]
    rows: Array  # [*batch, K, K], of norm one, or zero
    lost: Array  # [*batch, K], what rounding took from the logs


def identity(batch: tuple[int, ...], count: int, dtype) -> Graded:
    """Return the identity matrix for each example."""
    rows = jnp.broadcast_to(jnp.eye(count, dtype=dtype), (*batch, count, count))
    zero = jnp.zeros((*batch, count), dtype)
    return Graded(zero, rows, zero)


def multiply(r: Array, matrix: Graded) -> Graded:
    """Return `r @ matrix` for upper triangular `r [*batch, K, K]`.

    Logs are summed with compensation (Kahan 1965): thousands of roundings of one sign would show.
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
    orthogonal; the length of the shorter one follows from a difference of unit vectors, never from
    numbers as far apart as the lengths are, so that small values keep their relative accuracy
    (Demmel & Veselic 1992, "Jacobi's method is more accurate than QR").
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
        """Rotate row i with row half + i, then pair the rows anew."""
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
    """Return rows of norm one, and the logs of the norms they had; zeros stay, their logs -inf."""
    length = jnp.linalg.norm(rows, axis=-1)
    return rows / jnp.where(length > 0, length, 1)[..., None], jnp.log(length)


def _pair_anew(first, second, axis):
    """Move all rows but the first on by one place around the table: 2 half - 1 times pair all."""
    first, second = (jnp.moveaxis(a, axis, 0) for a in (first, second))
    parts = first[:1], second[:1], first[1:-1], second[1:], first[1:][-1:]
    return jnp.moveaxis(jnp.concatenate(parts), 0, axis)
