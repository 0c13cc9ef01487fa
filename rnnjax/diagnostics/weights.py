"""Parameters, or their gradients: blocks by gate, spectra, health and histograms.

Computed on the host, in NumPy. Every function takes leading axes before those of one network: a
population `[S, ...]`, a history `[T, S, ...]`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells.base import Cell, check_size
from rnnjax.cells.gated import Gated, GatedParams, GatedStep, is_gated
from rnnjax.cells.wrapper import Wrapper

PyTree = Any


def by_path(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a pytree by their paths, written `cell.recurrent_kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def by_gate(cell: Cell, params: PyTree) -> dict[str, dict[str, np.ndarray]]:
    """Return each parameter's blocks by gate: kernel name -> gate name -> block.

        W = [W_1 ... W_G],   W_g [..., D, H]

    The `input_kernel`, `recurrent_kernel` and `bias` of a `Gated` cell are cut along the last axis,
    also within a wrapper around it. Everything else has one block, whose gate is "": the other
    parameters of a gated cell (a GRU's `recurrent_bias`), and every leaf, by its path, of a cell
    that is not `Gated`. The blocks are those of `params` as given: for the effective weights of a
    cell with a `prepare` pass `cell.prepare(params)`.

    Args:
        cell: whose parameters they are.
        params: its parameters, raw or effective, or anything of the same structure, such as their
            gradients, with any number of leading axes.

    Raises:
        ValueError: a gated cell's parameter does not have the G*H columns of its gates.
    """
    blocks, gated = {}, cell
    while isinstance(gated, Wrapper):
        gated = gated.cell
    for path, leaf in by_path(params).items():
        values = np.asarray(leaf)
        if isinstance(gated, Gated) and path.rpartition(".")[2] in GatedParams._fields:
            columns = len(gated.gate_names) * gated.features
            if values.shape[-1:] != (columns,):
                raise ValueError(
                    f"{path} must have G*H = {columns} columns for the gates "
                    f"{', '.join(gated.gate_names)}, got shape {values.shape}"
                )
            parts = np.split(values, len(gated.gate_names), axis=-1)
            blocks[path] = dict(zip(gated.gate_names, parts, strict=True))
        else:
            blocks[path] = {"": values}
    return blocks


class Spectrum(NamedTuple):
    """Of one recurrent block. NaN where the block has an entry that is not finite."""

    eigenvalues: np.ndarray  # complex [..., H], largest modulus first
    singular_values: np.ndarray  # [..., H], largest first


def block_spectra(cell: Cell, params: PyTree) -> dict[str, Spectrum]:
    """Return the eigenvalues and the singular values of each gate's recurrent block, in float64.

        U_g = V diag(lambda) V^-1 = P diag(sigma) Q^H,   U_g [..., H, H]

    U is the effective kernel, `cell.recurrent_kernel(cell.prepare(params))`. A block-diagonal U_g
    has the values of all its heads; those of a diagonal U_g are its entries and their moduli.

    Args:
        cell: a gated cell, or a wrapper around one.
        params: its raw parameters, with any number of leading axes.

    Raises:
        TypeError: the cell is not gated, so its recurrent blocks are not known.
        ValueError: a block does not have H rows, so it has no eigenvalues, or G blocks of H columns
            do not fit.
    """
    if not (isinstance(cell, GatedStep) and is_gated(cell)):
        raise TypeError(f"cell must be a Gated cell, got {type(cell).__name__}")
    one = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1))
    leading = np.ndim(jax.tree.leaves(params)[0]) - len(jax.tree.leaves(one)[0].shape)

    def effective(params):
        return cell.recurrent_kernel(cell.prepare(params))

    form = len(jax.eval_shape(effective, one).shape)
    for _ in range(leading):
        effective = jax.vmap(effective)
    with jax.enable_x64(True):
        kernel = np.asarray(effective(jax.tree.map(jnp.asarray, params)))
    if kernel.shape[-1] % len(cell.gate_names):
        raise ValueError(
            f"recurrent_kernel must have equally many columns for each of the gates "
            f"{', '.join(cell.gate_names)}, got shape {kernel.shape}"
        )
    blocks = np.split(kernel, len(cell.gate_names), axis=-1)
    return {g: _spectrum(_wide(b), form) for g, b in zip(cell.gate_names, blocks, strict=True)}


def median_spectral_radius(cell: Cell, params: PyTree) -> float | None:
    """Return the median, over gates and leading axes, of the spectral radius of a recurrent block.

    None where it is not known: the cell is not gated, or its blocks are not square.

    Args:
        cell, params: as for `block_spectra`.
    """
    try:
        spectra = block_spectra(cell, params)
    except (TypeError, ValueError):
        return None
    radii = [np.abs(spectrum.eigenvalues).max(-1) for spectrum in spectra.values()]
    return float(np.median(radii))


def _spectrum(block, form):
    """Return the spectrum of a block: diagonal, dense or block-diagonal if `form` is 1, 2 or 3."""
    if form > 1 and block.shape[-2] != block.shape[-1]:
        raise ValueError(
            f"a recurrent block must be square to have eigenvalues, got {block.shape[-2:]}"
        )
    finite = np.isfinite(block).all(tuple(range(-form, 0)))[..., None]
    if form == 1:
        eigenvalues, singular_values = block.astype(complex), np.abs(block)
    else:
        block = np.where(finite[(..., *[None] * (form - 1))], block, 0)
        eigenvalues = np.linalg.eigvals(block).astype(complex)
        singular_values = np.linalg.svd(block, compute_uv=False)
    if form == 3:  # all heads together
        shape = *finite.shape[:-1], -1
        eigenvalues, singular_values = eigenvalues.reshape(shape), singular_values.reshape(shape)
    order = np.argsort(-np.abs(eigenvalues), axis=-1, kind="stable")
    eigenvalues = np.take_along_axis(eigenvalues, order, axis=-1)
    singular_values = -np.sort(-singular_values, axis=-1)
    return Spectrum(*(np.where(finite, v, np.nan) for v in (eigenvalues, singular_values)))


def _wide(values):
    return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


class Health(NamedTuple):
    """The number of entries of a parameter, and of those that are not healthy."""

    size: int
    nan: int
    infinite: int
    dead: int  # exactly zero


def health(tree: PyTree, leading: int = 0) -> dict[str, Health]:
    """Return, for each leaf of a pytree by its path, how many entries are NaN, infinite or dead.

    An entry is dead if it is exactly zero at every index of the leading axes, and NaN or infinite
    if it is so at any of them. A complex entry is NaN or infinite if either of its parts is. In a
    history of gradients `[T, ...]`, `leading=1`, dead entries are those that were never trained.

    Args:
        tree: parameters or gradients, raw or effective (`cell.prepare(params)`).
        leading: the number of leading axes before those of one network; they do not count in
            `size`.

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
    """Return one line of text per parameter: its size, and how many entries are not healthy."""
    width = max(map(len, health), default=0)
    return "\n".join(f"{path:{width}}  {_health_line(row)}" for path, row in health.items())


def _health_line(row):
    counts = {"NaN": row.nan, "infinite": row.infinite, "dead": row.dead}
    found = [f"{n} {what} ({n / row.size:.2g})" for what, n in counts.items() if n]
    return f"{row.size} entries: " + (", ".join(found) or "all finite, none zero")


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
        rows[name] = scale(_wide(flat))
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
