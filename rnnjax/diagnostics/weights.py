"""What is in the parameters, or in their gradients: by gate, spectra, health, histograms.

On the host, in NumPy. Everything takes leading axes before those of one network: a population
`[S, ...]`, a history `[T, S, ...]`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rnnjax.cells.base import Cell, check_size
from rnnjax.cells.gated import Gated, GatedParams

PyTree = Any


def by_path(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a pytree by their paths, written `cell.recurrent_kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def by_gate(cell: Cell, params: PyTree) -> dict[str, dict[str, np.ndarray]]:
    """Return each parameter's blocks by gate: kernel name -> gate name -> block.

        W = [W_1 ... W_G],   W_g [..., D, H]

    A gated cell's `input_kernel`, `recurrent_kernel` and `bias` are cut along the last axis. What
    does not belong to one gate has one block, whose gate is "": a gated cell's other parameters
    (a GRU's `recurrent_bias`), and every leaf, by its path, of a cell that is not `Gated`.

    Args:
        cell: whose parameters they are.
        params: its parameters or anything of the same structure, such as their gradients, with
            any number of leading axes.

    Raises:
        ValueError: a gated cell's parameter has not the G*H columns of its gates.
    """
    blocks = {}
    for path, leaf in by_path(params).items():
        values = np.asarray(leaf)
        if isinstance(cell, Gated) and path in GatedParams._fields:
            columns = len(cell.gate_names) * cell.features
            if values.shape[-1:] != (columns,):
                raise ValueError(
                    f"{path} must have G*H = {columns} columns for the gates "
                    f"{', '.join(cell.gate_names)}, got shape {values.shape}"
                )
            parts = np.split(values, len(cell.gate_names), axis=-1)
            blocks[path] = dict(zip(cell.gate_names, parts, strict=True))
        else:
            blocks[path] = {"": values}
    return blocks


class Spectrum(NamedTuple):
    """Of one recurrent block. NaN where the block has an entry that is not finite."""

    eigenvalues: np.ndarray  # complex [..., H], by falling modulus
    singular_values: np.ndarray  # [..., H], falling


def block_spectra(cell: Cell, params: PyTree) -> dict[str, Spectrum]:
    """Return the eigenvalues and the singular values of each gate's recurrent block, in float64.

        U_g = V diag(lambda) V^-1 = P diag(sigma) Q^T,   U_g [..., H, H]

    Args:
        cell: a gated cell.
        params: as for `by_gate`.

    Raises:
        TypeError: the cell is not `Gated`, so that its recurrent blocks are not known.
        ValueError: as for `by_gate`.
    """
    if not isinstance(cell, Gated):
        raise TypeError(f"cell must be a Gated cell, got {type(cell).__name__}")
    return {
        gate: _spectrum(block.astype(np.float64))
        for gate, block in by_gate(cell, params)["recurrent_kernel"].items()
    }


def _spectrum(block):
    finite = np.isfinite(block).all((-2, -1), keepdims=True)
    block = np.where(finite, block, 0)
    eigenvalues = np.linalg.eigvals(block).astype(complex)
    order = np.argsort(-np.abs(eigenvalues), axis=-1, kind="stable")
    eigenvalues = np.take_along_axis(eigenvalues, order, axis=-1)
    singular_values = np.linalg.svd(block, compute_uv=False)
    return Spectrum(*(np.where(finite[..., 0], v, np.nan) for v in (eigenvalues, singular_values)))


class Health(NamedTuple):
    """How many entries a parameter has, and how many of them something is wrong with."""

    size: int
    nan: int
    infinite: int
    dead: int  # exactly zero


def health(tree: PyTree, leading: int = 0) -> dict[str, Health]:
    """Return, for each leaf of a pytree by its path, how many entries are NaN, infinite or dead.

    An entry is dead if it is exactly zero at every index of the leading axes, NaN or infinite if
    it is so at any of them. In a history of gradients `[T, ...]`, `leading=1`, the dead entries
    are those that nothing was ever learnt by.

    Args:
        tree: parameters or gradients.
        leading: how many leading axes its leaves have before those of one network; they are not
            counted in `size`.

    Raises:
        ValueError: `leading` is negative, or a leaf has fewer axes or an empty leading one.
    """
    return {path: _health(path, np.asarray(leaf), leading) for path, leaf in by_path(tree).items()}


def _health(path, values, leading):
    if not 0 <= leading <= values.ndim or 0 in values.shape[:leading]:
        raise ValueError(
            f"leading must count axes that {path or 'the leaf'} of shape {values.shape} has, none "
            f"of them empty; got {leading}"
        )
    axes = tuple(range(leading))
    return Health(
        size=int(np.prod(values.shape[leading:])),
        nan=int(np.isnan(values).any(axes).sum()),
        infinite=int(np.isinf(values).any(axes).sum()),
        dead=int((values == 0).all(axes).sum()),
    )


def health_report(health: Mapping[str, Health]) -> str:
    """Return a line of text for each parameter: its size, and what is wrong with it."""
    width = max(map(len, health), default=0)
    return "\n".join(f"{path:{width}}  {_health_line(row)}" for path, row in health.items())


def _health_line(row):
    counts = {"NaN": row.nan, "infinite": row.infinite, "dead": row.dead}
    found = [f"{n} {what} ({n / row.size:.2g})" for what, n in counts.items() if n]
    return f"{row.size} entries: " + (", ".join(found) or "all finite, none zero")


class Histogram(NamedTuple):
    """Counts of entries for each index s of the leading axis.

    `counts.sum(-1) + zero + not_finite` is the number of entries.
    """

    edges: np.ndarray  # [N + 1], of the bins; the last one holds its upper edge too
    counts: np.ndarray  # [S, N], entries that are finite and not zero
    zero: np.ndarray  # [S], entries that are exactly zero
    not_finite: np.ndarray  # [S]


def histogram(blocks: Mapping[str, Any], bins: int = 50) -> dict[str, Histogram]:
    """Count the entries of each block in bins of equal width, the same for all blocks and seeds.

    Args:
        blocks: arrays `[S, ...]` by name, such as one kernel of `by_gate`; each s is counted by
            itself, so that seeds can be drawn as a band.
        bins: N.

    Raises:
        ValueError: `bins` is not a positive integer, or a block has no axis S.
    """
    return _histogram(blocks, bins, np.positive, np.linspace)


def log_histogram(blocks: Mapping[str, Any], bins: int = 50) -> dict[str, Histogram]:
    """Count |entry| in bins of equal width in its logarithm, the same for all blocks and seeds.

    Arguments and errors as for `histogram`; the edges are those of |entry| itself.
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
        rows[name] = scale(flat.astype(np.float64))
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


def _edges(values, bins, space):
    """Return edges around all the values, or around 1 if there are none."""
    found = np.concatenate([[], *values])
    low, high = (found.min(), found.max()) if found.size else (1.0, 1.0)
    if low == high:
        low, high = low - abs(low) / 2, high + abs(high) / 2
    return space(low, high, bins + 1)


def _count(values, counted, edges):
    return np.histogram(values[counted], edges)[0]
