"""Long products of Jacobians in log space: orthogonal factors and graded triangular ones.

K vectors for each example are a list of leaves `[K, *batch, ...]` or, flat, `[K, *batch, N]`; in
this layout one matmul serves them all.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

UNROLLED = 16  # more vectors than this go to LAPACK


class Factors(NamedTuple):
    """A QR factorisation: v_j = sum over i <= j of R_ij q_i, R_jj >= 0."""

    q: Array  # [K, *batch, N], orthonormal
    r: Array  # [*batch, K, K], upper triangular
    growth: Array  # [*batch, K], the diagonal of r


def orthonormalise(vectors: Array) -> Factors:
    """Return the QR factorisation of the vectors `[K, *batch, N]`.

    Few vectors go through modified Gram-Schmidt, one
    column after another: small batched factorisations by LAPACK are several times slower there.
    Its R is as good as Householder's and its Q orthogonal up to eps cond(R) (Bjorck 1967).
    """
    count = vectors.shape[0]
    if count > UNROLLED:
        q, r = jnp.linalg.qr(jnp.moveaxis(vectors, 0, -1))
        growth = jnp.diagonal(r, axis1=-2, axis2=-1)
        sign = jnp.where(growth < 0, -1, 1)
        q = jnp.moveaxis(q * sign[..., None, :], -1, 0)
        return Factors(q, r * sign[..., :, None], growth * sign)
    peaks = jnp.max(jnp.abs(vectors), axis=-1)  # lest squares underflow
    vectors = vectors / jnp.where(peaks > 0, peaks, 1)[..., None]
    unit: list[Array] = []
    zero, columns = jnp.zeros(vectors.shape[1:-1], vectors.dtype), []
    for j in range(count):
        rest, column = vectors[j], []
        for q in unit:
            along = jnp.sum(q * rest, axis=-1)
            rest = rest - along[..., None] * q
            column.append(along)
        length = jnp.sqrt(jnp.sum(rest**2, axis=-1))
        unit.append(rest / jnp.where(length > 0, length, 1)[..., None])
        columns.append([*column, length, *[zero] * (count - j - 1)])
    growth = jnp.stack([columns[j][j] for j in range(count)], axis=-1)
    r = jnp.stack([jnp.stack(column, axis=-1) for column in columns], axis=-1)
    peaks = jnp.moveaxis(peaks, 0, -1)
    return Factors(jnp.stack(unit), r * peaks[..., None, :], growth * peaks)


class Graded(NamedTuple):
    """A square matrix whose rows may differ by any power: `exp(logs)[:, None] * rows`."""

    logs: Array  # [*batch, K]
    rows: Array  # [*batch, K, K], of norm one, or zero


def identity(batch: tuple[int, ...], count: int, dtype) -> Graded:
    """Return the identity matrix for each example."""
    rows = jnp.broadcast_to(jnp.eye(count, dtype=dtype), (*batch, count, count))
    return Graded(jnp.zeros((*batch, count), dtype), rows)


def multiply(r: Array, matrix: Graded) -> Graded:
    """Return `r @ matrix` for upper triangular `r [*batch, K, K]`."""
    logs = jnp.log(jnp.abs(r)) + matrix.logs[..., None, :]
    peak = jnp.max(logs, axis=-1)
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    weights = jnp.sign(r) * jnp.exp(logs - peak[..., None])
    return _rescaled(Graded(peak, weights @ matrix.rows))


def log_singular_values(matrix: Graded) -> Array:
    """Return ln of the singular values of a graded matrix, descending, `[*batch, K]`.

    One-sided Jacobi on its rows. A rotation of rows i and j of lengths e^l_i >= e^l_j makes them
    orthogonal; the length of the shorter one follows from a difference of unit vectors, never from
    numbers as far apart as the lengths are, so that small values keep their relative accuracy
    (Demmel & Veselic 1992, "Jacobi's method is more accurate than QR").
    """
    count = matrix.logs.shape[-1]
    if count % 2:  # rows are rotated in pairs
        last = jnp.full_like(matrix.logs[..., :1], -jnp.inf)
        logs = jnp.concatenate([matrix.logs, last], axis=-1)
        rows = jnp.concatenate([matrix.rows, jnp.zeros_like(matrix.rows[..., :1, :])], axis=-2)
        matrix = Graded(logs, rows)
    half = (count + 1) // 2
    tolerance = 4 * jnp.finfo(matrix.rows.dtype).eps * count

    def turn(_, state):
        """Rotate row i with row half + i, then pair the rows anew."""
        matrix, largest = state
        first = Graded(matrix.logs[..., :half], matrix.rows[..., :half, :])
        second = Graded(matrix.logs[..., half:], matrix.rows[..., half:, :])
        first, second, cosine = _rotate(first, second)
        logs = _pair_anew(first.logs, second.logs, -1)
        rows = _pair_anew(first.rows, second.rows, -2)
        return Graded(logs, rows), jnp.maximum(largest, jnp.max(jnp.abs(cosine), initial=0))

    def sweep(state):
        matrix, _, number = state
        start = matrix, jnp.zeros((), matrix.rows.dtype)
        matrix, largest = lax.fori_loop(0, 2 * half - 1, turn, start)
        return matrix, largest, number + 1

    def unfinished(state):
        return (state[1] > tolerance) & (state[2] < 30)

    start = matrix, jnp.asarray(jnp.inf, matrix.rows.dtype), 0
    matrix = lax.while_loop(unfinished, sweep, start)[0]
    return -jnp.sort(-matrix.logs, axis=-1)[..., :count]


def _rotate(a, b):
    """Make pairs of rows orthogonal; return them and the cosines of the angles they had."""
    swap = a.logs < b.logs
    long, short = (jax.tree.map(lambda x, y: _choose(swap, x, y), *p) for p in ((b, a), (a, b)))
    gap = jnp.where(short.logs == -jnp.inf, -jnp.inf, short.logs - long.logs)
    cosine, ratio = jnp.sum(long.rows * short.rows, axis=-1), jnp.exp(gap)
    # tau e^gap is the tangent of the angle
    difference = -jnp.expm1(2 * gap)
    root = difference + jnp.sqrt(4 * cosine**2 * ratio**2 + difference**2)
    tau = jnp.where(root > 0, 2 * cosine / jnp.where(root > 0, root, 1), jnp.sign(cosine))
    shrink = 1 / jnp.sqrt(1 + (tau * ratio) ** 2)
    tau, ratio, shrink = tau[..., None], ratio[..., None], shrink[..., None]
    longer = shrink * (long.rows + tau * ratio**2 * short.rows)
    shorter = shrink * (short.rows - tau * long.rows)
    long, short = _rescaled(Graded(long.logs, longer)), _rescaled(Graded(short.logs, shorter))
    a, b = (
        jax.tree.map(lambda x, y: _choose(swap, x, y), *p) for p in ((short, long), (long, short))
    )
    return a, b, jnp.where(jnp.isfinite(gap), cosine, 0)


def _choose(swap, a, b):
    return jnp.where(swap if a.ndim == swap.ndim else swap[..., None], a, b)


def _rescaled(matrix):
    length = jnp.linalg.norm(matrix.rows, axis=-1)
    safe = jnp.where(length > 0, length, 1)
    logs = jnp.where(length > 0, matrix.logs + jnp.log(safe), -jnp.inf)
    return Graded(logs, matrix.rows / safe[..., None])


def _pair_anew(first, second, axis):
    """Move all rows but the first on by one place around the table: 2 half - 1 times pair all."""
    first, second = (jnp.moveaxis(a, axis, 0) for a in (first, second))
    parts = first[:1], second[:1], first[1:-1], second[1:], first[1:][-1:]
    return jnp.moveaxis(jnp.concatenate(parts), 0, axis)
