"""Parameters, or their gradients: effective weights, blocks by gate, spectra and health.

Computed on the host, in NumPy. Every function takes leading axes before those of one network: a
population `[S, ...]`, a history `[T, S, ...]`. What a network computes with are the effective
weights, `cell.prepare(params)`. `block_spectra` and `median_spectral_radius` take raw parameters
and are about the effective ones; the other functions are about the arrays that they are given, so
give them `effective_params(cell, params)`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells.base import Cell
from rnnjax.cells.gated import Gated, GatedParams, GatedStep, is_gated
from rnnjax.cells.wrapper import Wrapper
from rnnjax.diagnostics.histograms import wide

PyTree = Any


def by_path(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a pytree by their paths, written `cell.recurrent_kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def effective_params(cell: Cell, params: PyTree, leading: int = 0) -> PyTree:
    """Return the effective parameters `cell.prepare(params)`, of each network.

    Args:
        cell: whose parameters they are.
        params: its raw parameters.
        leading: the number of leading axes before those of one network.
    """
    prepare = cell.prepare
    for _ in range(leading):
        prepare = jax.vmap(prepare)
    return prepare(jax.tree.map(jnp.asarray, params))


def by_gate(cell: Cell, params: PyTree) -> dict[str, dict[str, np.ndarray]]:
    """Return each parameter's blocks by gate: kernel name -> gate name -> block.

        W = [W_1 ... W_G],   W_g [..., D, H]

    The `input_kernel`, `recurrent_kernel` and `bias` of a `Gated` cell are cut along the last axis,
    also within a wrapper around it; the blocks of a block-diagonal U are `[..., N, K/N, H/N]`.
    Everything else has one block, whose gate is "": the other parameters of a gated cell (a GRU's
    `recurrent_bias`), and every leaf, by its path, of a cell that is not `Gated`. The blocks are
    those of `params` as given: for the effective weights of a cell with a `prepare` pass
    `effective_params(cell, params)`.

    Args:
        cell: whose parameters they are.
        params: its parameters, effective or raw, or anything of the same structure, such as their
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
            heads = values.shape[-3] if values.ndim > 2 else 1  # of a block-diagonal kernel
            if values.shape[-1:] not in ((columns,), (columns / heads,)):
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


def block_spectra(cell: Cell, params: PyTree, leading: int | None = None) -> dict[str, Spectrum]:
    """Return the eigenvalues and the singular values of each gate's recurrent block, in float64.

        U_g = V diag(lambda) V^-1 = P diag(sigma) Q^H,   U_g [..., H, H]

    U is the effective kernel, `cell.recurrent_kernel(cell.prepare(params))`. A block-diagonal U_g
    has the values of all its heads; those of a diagonal U_g are its entries and their moduli.

    Args:
        cell: a gated cell, or a wrapper around one.
        params: its raw parameters.
        leading: the number of leading axes before those of one network; None means as many as
            `params` have more than what `init` draws for inputs `[*batch, 1]`.

    Raises:
        TypeError: the cell is not gated, so its recurrent blocks are not known.
        ValueError: a block does not have H rows, so it has no eigenvalues, G blocks of H columns
            do not fit, or `init` does not tell the number of leading axes.
    """
    if not (isinstance(cell, GatedStep) and is_gated(cell)):
        raise TypeError(f"cell must be a Gated cell, got {type(cell).__name__}")
    leading = _leading(cell, params) if leading is None else leading

    def effective_kernel(params):
        return cell.recurrent_kernel(cell.prepare(params))

    for _ in range(leading):
        effective_kernel = jax.vmap(effective_kernel)
    with jax.enable_x64(True):
        kernel = np.asarray(effective_kernel(jax.tree.map(jnp.asarray, params)))
    form = kernel.ndim - leading
    if kernel.shape[-1] % len(cell.gate_names):
        raise ValueError(
            f"recurrent_kernel must have equally many columns for each of the gates "
            f"{', '.join(cell.gate_names)}, got shape {kernel.shape}"
        )
    blocks = np.split(kernel, len(cell.gate_names), axis=-1)
    return {g: _spectrum(wide(b), form) for g, b in zip(cell.gate_names, blocks, strict=True)}


def _leading(cell, params):
    try:
        one = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1))
    except Exception as error:  # of an author's own cell, whose inputs are a pytree, say
        raise ValueError(
            f"leading must be given, the number of leading axes of params: "
            f"{type(cell).__name__}.init draws none for inputs [*batch, 1]"
        ) from error
    return np.ndim(jax.tree.leaves(params)[0]) - len(jax.tree.leaves(one)[0].shape)


def median_spectral_radius(cell: Cell, params: PyTree, leading: int | None = None) -> float | None:
    """Return the median, over gates and leading axes, of the spectral radius of a recurrent block.

    The blocks are those of the effective kernel, as in `block_spectra`. None where it is not known:
    the cell is not gated, or its blocks are not square.

    Args:
        cell, params, leading: as for `block_spectra`.
    """
    if not is_gated(cell):
        return None
    leading = _leading(cell, params) if leading is None else leading
    try:
        spectra = block_spectra(cell, params, leading)
    except ValueError:
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
        tree: parameters or gradients as they are; for the weights that a cell computes with,
            `effective_params(cell, params)`.
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
