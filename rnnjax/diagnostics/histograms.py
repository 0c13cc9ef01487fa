"""Histograms of parameters, or of their gradients, on the host, in NumPy."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rnnjax.cells.base import check_size


class Histogram(NamedTuple):
    """Counts of entries for each index s of the leading axis.

    `counts.sum(-1) + zero + not_finite` is the number of counted values.
    """

    edges: np.ndarray  # [N + 1], of the bins; the last bin includes its upper edge
    counts: np.ndarray  # [S, N], entries that are finite and not zero
    zero: np.ndarray  # [S], entries that are exactly zero
    not_finite: np.ndarray  # [S]


def histogram(blocks: Mapping[str, Any], bins: int = 50) -> dict[str, Histogram]:
    """Count the entries of each block in bins of equal width, the same for all blocks and seeds.

    Of a complex entry the real and the imaginary part are counted as two values.

    Args:
        blocks: arrays `[S, ...]` by name, such as one kernel of `by_gate`; each s is counted
            separately, so that seeds can be drawn as a band.
        bins: N.

    Raises:
        ValueError: `bins` is not a positive integer, or a block has no axis S.
    """
    return _histogram(blocks, bins, _real_and_imaginary, np.linspace)


def log_histogram(blocks: Mapping[str, Any], bins: int = 50) -> dict[str, Histogram]:
    """Count |entry| in bins of equal width in its logarithm, the same for all blocks and seeds.

    A complex entry is counted once, by its modulus. Arguments and errors as for `histogram`; the
    edges are those of |entry|, not of its logarithm.
    """
    return _histogram(blocks, bins, np.abs, np.geomspace)


def _histogram(blocks, bins, scale, space):
    check_size("bins", bins)
    rows = {}
    for name, block in blocks.items():
        values = np.asarray(block)
        if values.ndim == 0:
            raise ValueError(f"block {name!r} must have a leading axis S, got a scalar")
        flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
        rows[name] = scale(wide(flat))
    counted = {name: np.isfinite(row) & (row != 0) for name, row in rows.items()}
    edges = _edges([row[counted[name]] for name, row in rows.items()], bins, space)
    return {
        name: Histogram(
            edges,
            np.array([_count(*pair, edges) for pair in zip(row, counted[name], strict=True)]),
            (row == 0).sum(-1),
            (~np.isfinite(row)).sum(-1),
        )
        for name, row in rows.items()
    }


def wide(values: np.ndarray) -> np.ndarray:
    """Return an array in float64 or complex128."""
    return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


def _real_and_imaginary(rows):
    return np.concatenate([rows.real, rows.imag], axis=1) if np.iscomplexobj(rows) else rows


def _edges(values, bins, space):
    """Return edges that span all values, or edges around 1 if there are none."""
    found = np.concatenate([[], *values])
    low, high = (found.min(), found.max()) if found.size else (1.0, 1.0)
    if low == high:
        low, high = low - abs(low) / 2, high + abs(high) / 2
    return space(low, high, bins + 1)


def _count(values, counted, edges):
    return np.histogram(values[counted], edges)[0]
