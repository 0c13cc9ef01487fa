"""Numbers behind the figures that experiments share: quantile bands and loss curves."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from rnnjax import diagnostics


def quantile_band(values: Any) -> dict[str, np.ndarray]:
    """Return columns `median`, `q25` and `q75`, each `[K]`, over all axes but the second.

    Args:
        values: `[S, K, ...]`, such as log norms by member, lag and example.
    """
    rows = np.moveaxis(np.asarray(values), 1, 0)
    return diagnostics.quartiles(rows.reshape(len(rows), -1))


def profile_rows(log_profile: Any) -> tuple[dict[str, Any], float]:
    """Return rows of a table by lag, and the half-life of the median in steps.

    Args:
        log_profile: natural logs `[S, K, B]` of gradient norms at lags 1, ..., K.

    Returns:
        Columns `lag`, `median`, `q25` and `q75`; and the half-life of the exponential fitted to the
        median.
    """
    band = quantile_band(log_profile)
    rows = {"lag": np.arange(1, len(band["median"]) + 1), **band}
    return rows, float(diagnostics.half_life(jnp.asarray(band["median"])))


def loss_curve(chunk: Any, windows: int = 5) -> list[dict[str, Any]]:
    """Return rows of a learning curve: the loss averaged over parts of a chunk of training.

    Members that have stopped are left out.

    Args:
        chunk: a `training.ChunkRecord` with the metric `loss`.
        windows: how many parts, at most one per update.

    Returns:
        Rows with columns `step` (the last of the part), `median`, `q25` and `q75` over members.
    """
    losses, step, rows = chunk.metrics["loss"], chunk.first_step - 1, []
    for part in np.array_split(losses, min(windows, len(losses))):
        step += len(part)
        means = part.mean(0)
        rows.append({"step": step, **diagnostics.quartiles(means[np.isfinite(means)])})
    return rows
