"""Singular values of products of Jacobians of several seeds, and what tables say of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Num

from rnnjax import diagnostics
from rnnjax.cells import Cell, Gated
from rnnjax.cells.initializers import Orthogonal
from rnnjax.experiment.tables import rates_by_lag


def why_not_varied(make_cell: Callable[..., Cell]) -> str:
    """Return why neither kernel nor gain of a cell can be varied; an empty text if they can.

    Args:
        make_cell: makes the cell, given `recurrent_kernel_init` if it is a Gated one.
    """
    if not isinstance(make_cell(), Gated):
        return "it is not a Gated cell"
    cells = [make_cell(recurrent_kernel_init=Orthogonal(gain)) for gain in (1.0, 2.0)]
    one, two = (cell.init(jax.random.key(0), 1).recurrent_kernel for cell in cells)
    return "it draws its recurrent kernel by itself" if np.array_equal(one, two) else ""


def log_spectra(
    drawn: Cell, measured: Cell, members: Sequence[int], lags: Sequence[int], shape: Sequence[int]
) -> tuple[np.ndarray, list[Any]]:
    """Return ln of the singular values of d s_T / d s_{T-k}, `[K, S, B, N]`, on white noise.

    Args:
        drawn: the cell that draws the parameters, from the first half of each seed's key.
        measured: the same cell as far as its step goes; one object for many initialisations is
            compiled once.
        members: the S seeds.
        lags: K lags.
        shape: `[T, B, D]`, of the inputs, drawn from the second half of the key.

    Returns:
        The logs, and the parameters of each seed.
    """
    logs, networks = [], []
    for seed in members:
        params_key, inputs_key = jax.random.split(jax.random.key(seed))
        params = drawn.init(params_key, shape[-1])
        inputs = jax.random.normal(inputs_key, tuple(shape))
        found = diagnostics.jacobian_singular_values(measured, params, inputs, lags)
        logs.append(np.asarray(found.log_values))
        networks.append(params)
    return np.stack(logs, 1), networks


def describe(
    place: Mapping[str, Any],
    lags: Num[np.ndarray, "K"],
    logs: np.ndarray,
    theory: Mapping[str, float],
    *,
    skip: float = 0.25,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return what tables and the summary say of the singular values of one initialisation.

    Args:
        place: columns of every table, and the beginning of the entry.
        lags, skip: as for `rates_by_lag`.
        logs: `[K, S, B, N]`, from `log_spectra`.
        theory: the rates that are expected of `diagnostics.log_spectrum_statistics`; that of the
            leading value is a bound.

    Returns:
        The columns of each table, and the rates with `largest_condition`, the ln of the largest
        condition number, and `largest_over_bound`, how far ln sigma_1 is above its bound at most.
    """
    values = diagnostics.log_spectrum_statistics(logs)
    columns, rates = rates_by_lag(place, lags, values, theory, skip=skip)
    entry = {**place, **rates, "largest_condition": float(values["condition"].max())}
    if "leading" in theory:
        over = values["leading"].max((1, 2)) - lags * theory["leading"]
        entry["largest_over_bound"] = float(over.max())
    return columns, entry


def of_one_sequence(lags: Num[np.ndarray, "K"], logs: np.ndarray) -> dict[str, np.ndarray]:
    """Return columns `lag`, `index` and `log_value`: all values of a seed's first sequence."""
    values = logs[:, 0, 0]
    lag, index = np.meshgrid(lags, np.arange(values.shape[1]), indexing="ij")
    return {"lag": lag.ravel(), "index": index.ravel(), "log_value": values.ravel()}
