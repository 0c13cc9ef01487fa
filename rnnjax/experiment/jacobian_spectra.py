"""Singular values of products of Jacobians of several seeds, and what tables say of them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from rnnjax import diagnostics, networks, training
from rnnjax.cells import Cell, Gated
from rnnjax.cells.initializers import Orthogonal
from rnnjax.experiment.readout import Readout
from rnnjax.experiment.tables import Tables, profile_rows, quantile_band, rates_by_lag


def initialisations(config: Any, name: str) -> list[tuple[str, float]]:
    """Return pairs of kernel and gain; one pair, ("own", 1.0), if a cell only draws itself.

    That is a cell that is not `Gated`, or ignores `recurrent_kernel_init`; a line is printed.

    Args:
        config: has `make_cell`, `kernels` and `gains`.
        name: of the cell.
    """
    if isinstance(config.make_cell(name), Gated):
        cells = [config.make_cell(name, recurrent_kernel_init=Orthogonal(g)) for g in (1.0, 2.0)]
        one, two = (cell.init(jax.random.key(0), 1).recurrent_kernel for cell in cells)
        if not np.array_equal(one, two):
            return [*itertools.product(config.kernels, config.gains)]
        why = "it draws its recurrent kernel by itself"
    else:
        why = "it is not a Gated cell"
    print(f"{networks.short_name(name)}: neither kernel nor gain is varied: {why}")
    return [("own", 1.0)]


def spaced_lags(length: int, count: int) -> np.ndarray:
    """Return lag 1 and `count` lags up to `length`, evenly spaced."""
    return np.unique([1, *np.linspace(0, length, count + 1).round()[1:].astype(int)])


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


def expected_rates(
    cell: str, gain: float, input_scale: float, params: Sequence[Any]
) -> dict[str, float]:
    """Return the rates in theory of a cell's statistics, as far as there is a theory.

    `leading`, of `linear` and `elman`: the bound ln (gamma ||U||), gamma = max phi' = 1, ||U|| the
    largest of the seeds. It is exact where h is the whole state and its only way through time is U.
    `root_mean_square`, of `elman`: `diagnostics.mean_field_exponent`, exact as H -> infinity.

    Args:
        cell: its name.
        gain: of the recurrent kernel.
        input_scale: standard deviation of what the inputs add to a pre-activation.
        params: of each seed.
    """
    rates = {}
    if cell in ("linear", "elman"):
        norms = [np.linalg.norm(np.asarray(one.recurrent_kernel), 2) for one in params]
        rates["leading"] = math.log(max(norms))
    if cell == "elman":
        rates["root_mean_square"] = diagnostics.mean_field_exponent(gain, input_scale**2)
    return rates


def long_term_jacobians(
    cell: Cell, networks: Sequence[Readout], xs: Any, *, lag: int, num: int, transient: int
) -> dict[str, np.ndarray]:
    """Return what the Jacobians of several populations do over many steps, `[P, S, ...]`.

    Args:
        cell: of all networks.
        networks: P populations, the parameters of all seeds of each, `[S, ...]`.
        xs: inputs `[T, B, D]`, the same for all.
        lag: of the product d s_T / d s_{T-lag} and of the earliest gradient.
        num: how many exponents and singular values count, from the largest.
        transient: steps that exponents leave out.

    Returns:
        `exponents [P, S, N]`, all of them, the mean over examples; `root_mean_square [P, S]` of
        the first `num`; `log_condition [P, S]`, ln of the first over the last of the singular
        values that count, the median over examples; and
        `log_gradients [P, S, lag, B]`, ln of the norm of the gradient of the first output at the
        last step, relative to lag 0, at the lags 1 .. lag.
    """

    def one(params, *, xs):
        spectrum = diagnostics.lyapunov_spectrum(cell, params.cell, xs, transient=transient)
        values = diagnostics.jacobian_singular_values(cell, params.cell, xs, [lag]).log_values[0]
        profile = diagnostics.gradient_profile(
            cell, params.cell, xs, lambda ys: jnp.sum(ys[-1] @ params.kernel[:, 0])
        )
        exponents = jnp.mean(spectrum.exponents, 0)
        return {
            "exponents": exponents,
            "root_mean_square": jnp.sqrt(jnp.mean(exponents[:num] ** 2)),
            "log_condition": jnp.median(values[:, 0] - values[:, num - 1]),
            "log_gradients": profile.relative()[:lag],
        }

    everyone = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *networks)
    found = training.over_population(one)(everyone, xs=xs)  # compiled once for all
    return {k: np.asarray(a).reshape(len(networks), -1, *a.shape[1:]) for k, a in found.items()}


def add_long_term(
    tables: Tables, found: Mapping[str, np.ndarray], names: Sequence[str], **columns: Any
) -> None:
    """Add rows to the tables `exponents` and `gradients`, medians and quartiles of each network's.

    Columns `network`, and `i`, the index of the exponent, from 1; or `lag`.

    Args:
        tables: to which rows are added.
        found: from `long_term_jacobians`; the quartiles are over seeds, and of gradients also over
            examples.
        names: of the P populations.
        columns: the same value in all rows, such as `cell="gru"`.
    """
    index = {"i": 1 + np.arange(found["exponents"].shape[-1])}
    both = found["exponents"], found["log_gradients"]
    for name, exponents, gradients in zip(names, *both, strict=True):
        row = columns | {"network": name}
        tables["exponents"].append(row | index | quantile_band(exponents))
        tables["gradients"].append(row | profile_rows(gradients))


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
