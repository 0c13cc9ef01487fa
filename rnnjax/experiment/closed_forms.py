"""Simulated means beside their closed forms: how far off they are, and how far chance allows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rnnjax import diagnostics
from rnnjax.experiment.console import print_table


def beside_theory(values: Float[np.ndarray, "S H"], theory: Any) -> dict[str, Any]:
    """Return columns of a table: `median`, `q25`, `q75`, `theory`, `mean` and `standard_error`.

    Args:
        values: independent simulations of H quantities, S of each.
        theory: the closed forms, `[H]`.
    """
    values = np.asarray(values, float)
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    columns = {"theory": theory, "mean": values.mean(0), "standard_error": error}
    return diagnostics.quartiles(values.T) | columns


def largest_deviations(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how far means are from their closed forms at most, of all columns and rows.

    Args:
        rows: have the columns of `beside_theory`.

    Returns:
        `relative_error`, |mean - theory| / theory; `standard_errors`, |mean - theory| over the
        standard error; and `largest_standard_error`, over the theory.
    """
    mean, theory, error = (
        np.stack([row[name] for row in rows]) for name in ("mean", "theory", "standard_error")
    )
    off = np.abs(mean - theory)
    return {
        "relative_error": float(np.max(off / theory)),
        "standard_errors": float(np.max(off / error)),
        "largest_standard_error": float(np.max(error / theory)),
    }


def ratios(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of means over their closed forms, the band two standard errors to either side.

    Args:
        table: has the columns of `beside_theory`.
    """
    mean, error = (table[name] / table["theory"] for name in ("mean", "standard_error"))
    band = {"median": mean, "q25": mean - 2 * error, "q75": mean + 2 * error}
    return {**table, **band, "theory": np.ones_like(mean)}


def last_values(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return the last mean and closed form of each row, as `simulated` and `closed_form`.

    Args:
        rows: have the columns of `beside_theory`.
        name: of the column that names the rows.
    """
    return {
        "simulated": {row[name]: float(row["mean"][-1]) for row in rows},
        "closed_form": {row[name]: float(row["theory"][-1]) for row in rows},
    }


def texts(entry: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return "simulated | closed form" for each name of an entry of `last_values`."""
    pairs = [(entry["simulated"][name], entry["closed_form"][name]) for name in names]
    return [f"{simulated:.4g} | {closed:.4g}" for simulated, closed in pairs]


def allowed(comparisons: int, samples: int, level: float = 0.01) -> float:
    """Return how many standard errors the largest of many deviations exceeds by chance.

        t such that P(|T| > t) = level / comparisons,   T of Student with samples - 1 degrees

    (Bonferroni): in at most the share `level` of all runs is any of the deviations larger.

    Args:
        comparisons: how many means are compared with their closed forms.
        samples: independent values of which each is the mean.
        level: the share of runs.
    """
    from scipy import stats

    return float(stats.t.isf(level / 2 / comparisons, samples - 1))


def compare(
    measured: Sequence[float], stated: Mapping[str, float], allowed: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return, by name, a measured and a stated value, the error, and the error that is allowed.

    Args:
        measured: in the order of `stated`.
        stated, allowed: by name.
    """
    return {
        name: {"measured": v, "stated": want, "error": v - want, "allowed": allowed[name]}
        for (name, want), v in zip(stated.items(), measured, strict=True)
    }


def show(compared: Mapping[str, Mapping[str, float]]) -> None:
    """Print what `compare` returns as a table, and an empty line."""
    rows = [
        [name, row["measured"], row["stated"], f"{row['error']:.1e}"]
        for name, row in compared.items()
    ]
    print_table(["closed form", "measured", "stated", "error"], rows, digits=7)
    print()
