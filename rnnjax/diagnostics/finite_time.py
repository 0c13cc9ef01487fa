"""Lyapunov exponents over short times: how they vary along a trajectory, and with the input."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell, check_size
from rnnjax.diagnostics import growth
from rnnjax.diagnostics.linear import precise, run
from rnnjax.recurrence.inputs import batch_shape

PyTree = Any
BLOCKS = 20  # of time, over which standard errors are taken


class ConditionalExponents(NamedTuple):
    """What `exponents_by_condition` returns, entry c about label c."""

    exponents: Any  # [C, num], nats per step; NaN where no window has the label
    standard_error: Any  # [C, num]
    windows: Any  # [C], how many have the label


@precise
def finite_time_exponents(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    window: int,
    num: int | None = None,
    *,
    transient: int = 0,
    initial_carry: PyTree = None,
) -> Float[Array, "windows *batch num"]:
    """Return the leading Lyapunov exponents of successive windows of time, in nats per step.

        lambda_i(w) = mean of ln R_ii(t) over the steps t of window w,   Q_{t+1} R_{t+1} = J_t Q_t

    Window w covers the steps t = transient + w window, ..., transient + (w + 1) window - 1; steps
    that do not fill one are left out. The first i exponents of a window add up to the growth of the
    volume that the first i vectors span, and the mean over all windows is the exponent of
    `lyapunov_spectrum`. The vectors run on from window to window: i is the same vector in all of
    them, so the exponents of one window need not descend. With window = 1 these are the local
    growth rates. Those of the covariant vectors are `covariant_lyapunov_vectors(...).log_growth`.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        window: steps per window.
        num: how many exponents; None means all N.
        transient: number of first steps that belong to no window, while the carry approaches the
            attractor and Q its directions. A `Linear` cell needs none: its vectors are the axes of
            the state.

    Returns:
        -inf where a Jacobian contracts a direction to zero within one step of the window.

    Raises:
        ValueError: `num` is not in 1..N, `window` is not positive, `transient` does not leave a
            window, or a shape does not fit.
        FloatingPointError: a carry is not finite.

    Source: Grassberger, Badii, Politi 1988, "Scaling laws for invariant measures on hyperbolic and
    nonhyperbolic attractors"; Pikovsky & Politi 2016, "Lyapunov exponents", chapter 5.
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    check_size("window", window)
    if transient < 0 or transient + window > total:
        raise ValueError(
            f"transient must be at least 0 and leave a window of {window} of the T = {total} "
            f"steps, got {transient}"
        )
    trajectory = run(cell, params, xs, initial_carry)
    num = growth.checked_num(num, trajectory, len(batch))
    given = growth.what_grows(cell, trajectory)
    return _windows(cell, len(batch), num, window, transient, given)


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim", "num", "window", "transient"))
def _windows(cell, batch_ndim, num, window, transient, given):
    logs = growth.log_growth(cell, batch_ndim, num, 1, transient, given)[transient:]
    count = logs.shape[0] // window
    return logs[: count * window].reshape(count, window, *logs.shape[1:]).mean(axis=1)


def exponents_by_condition(rates: Any, labels: Any) -> ConditionalExponents:
    """Return the mean growth rates of the windows that have each label.

        lambda_i(c) = mean of rates_i over the windows with label c, of all examples

    Weighted by how often each label occurs, these add up to the exponents. Labels are conditions of
    a task, or bins of what is known of the input:

        rates = finite_time_exponents(cell, params, xs, window=1, transient=100)
        labels = jnp.digitize(jnp.var(xs[100:], axis=-1), edges)
        exponents_by_condition(rates, labels).exponents

    The vectors of a window come from those before it, so in short ones the exponents of a condition
    also depend on what preceded it.

    Args:
        rates: `[windows, *batch, num]`, as from `finite_time_exponents` or the `log_growth` of
            `covariant_lyapunov_vectors`.
        labels: `[windows, *batch]`, integers 0 .. C - 1; windows with negative ones do not count.

    Returns:
        Exponents and standard errors, in float64. The errors come from each example's 20 successive
        blocks of time, which are treated as independent of each other; they are NaN where fewer
        than two of them have the label.

    Raises:
        ValueError: there is no window, labels are not integers, or shapes differ.
    """
    rates, labels = np.asarray(rates, float), np.asarray(labels)
    if rates.ndim == 0 or labels.shape != rates.shape[:-1] or labels.size == 0:
        raise ValueError(
            "rates must have shape [windows, *batch, num] and labels [windows, *batch], with at "
            f"least one window; got {rates.shape} and {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    found = []
    for label in range(max(labels.max() + 1, 0)):
        chosen = labels == label
        inside = np.where(chosen[..., None], rates, 0)
        parts = zip(np.array_split(inside, BLOCKS), np.array_split(chosen, BLOCKS), strict=True)
        sums, counts = zip(*((r.sum(0), c.sum(0)) for r, c in parts), strict=True)
        found.append(_ratio(np.stack(sums), np.stack(counts)))
    exponents, errors, windows = (np.array(part) for part in zip(*found, strict=True))
    return ConditionalExponents(exponents, errors, windows)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
    """Return sum of sums over sum of counts, its error (delta method), and the sum of counts."""
    has = counts > 0
    sums, counts = sums[has], counts[has]
    if len(counts) == 0:
        nothing = np.full(sums.shape[-1], np.nan)
        return nothing, nothing, 0
    total = counts.sum()
    mean = sums.sum(0) / total
    if len(counts) == 1:
        return mean, np.full_like(mean, np.nan), total
    with np.errstate(invalid="ignore"):  # rates of -inf have no error
        squares = ((sums - mean * counts[:, None]) ** 2).sum(0)
    return mean, np.sqrt(squares * len(counts) / (len(counts) - 1)) / total, total
