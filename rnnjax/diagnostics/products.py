"""Long products of triangular matrices in log space, and their singular values."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


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
