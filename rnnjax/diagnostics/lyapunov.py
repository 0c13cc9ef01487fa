"""Lyapunov exponents: the rates at which small differences of the carry grow or die."""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from rnnjax.cells.base import Cell, check_size
from rnnjax.cells.linear import Linear
from rnnjax.diagnostics import growth
from rnnjax.diagnostics.jacobians import carry_size
from rnnjax.diagnostics.linear import precise, run
from rnnjax.recurrence.inputs import batch_shape

PyTree = Any
BLOCKS = 20  # over which the standard error is taken


class LyapunovSpectrum(NamedTuple):
    """What `lyapunov_spectrum` returns."""

    exponents: Any  # [*batch, num], nats per step, descending
    standard_error: Any  # [*batch, num], of the mean over time
    condition: Any  # [*batch], the largest condition number of Q before it was orthonormalised
    block_means: Any = None  # [blocks, *batch, num], over successive blocks of time, at most 20
    dimensions: Any = None  # [*batch], N: how many exponents there are


@precise
def lyapunov_spectrum(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    num: int | None = None,
    *,
    interval: int = 1,
    transient: int = 0,
    segments: int = 1,
    initial_carry: PyTree = None,
) -> LyapunovSpectrum:
    """Return the leading Lyapunov exponents along one trajectory, each example by itself.

        Q_{t+1} R_{t+1} = J_t Q_t,    lambda_i = mean over t of ln R_ii, per step

    with natural logs. Only `num` vectors are pushed forward. All N exponents add up to the mean of
    ln |det J_t|. N counts real dimensions: a complex entry of the carry has two exponents, so
    z' = a z with complex a has ln |a| twice.

    The Jacobians of a `Linear` cell, s' = a s + b, are diagonal. Its vectors are the axes of the
    state, which stay orthogonal: lambda_i is the mean over t of ln |a_i|, exactly, after any number
    of steps, and nothing is factorised. (Random vectors would have to find these axes first.) The
    condition number is then that of the stretched axes, and large ones do no harm.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
            With zeros the network runs by itself.
        num: how many exponents; None means all N.
        interval: steps between two factorisations. Q deteriorates by exp((lambda_1 - lambda_num)
            interval) between them.
        transient: number of first steps that are not counted, while the carry approaches the
            attractor and Q its directions; rounded up to a multiple of `interval`. A `Linear` cell
            needs none.
        segments: number of segments of time whose vectors are pushed forward together, as a batch;
            it pays in long runs of few vectors and few examples, whose steps do not fill the
            machine. Each segment begins with new vectors, `transient` steps before the first that
            it counts; steps that do not divide are left out at the beginning. The trajectory is the
            same, and so are the exponents where the transient is long enough for Q to find its
            directions. A `Linear` cell does without.

    Returns:
        Exponents, their standard errors and the largest condition number of Q. The errors come
        from the means over 20 successive blocks of time, because neighbouring steps depend on
        each other; they are NaN with fewer than two factorisations. Where the Jacobians contract a
        direction to zero within one step, exactly or up to rounding, its exponent is -inf, with a
        standard error of NaN, and the condition number is infinite; the other exponents are right.
        A direction that goes to zero only over several steps, as one of an sLSTM's does, has the
        exponent of its rounding errors instead, with a large standard error.
        A carry of redundant states, such as x and r = tanh(x), has as many of them as it has
        entries that follow from the others; that of a `Linear` cell as many as entries with a = 0.

    Raises:
        ValueError: `num` is not in 1..N, `interval` or `segments` is not positive, `transient`
            does not leave a step to count, or none to a segment, several segments have no
            transient, or a shape does not fit.
        FloatingPointError: a carry is not finite.

    Warns:
        RuntimeWarning: some exponents are -inf; or Q, without their directions, became too
            ill-conditioned for its type, and the last exponents may be wrong (no warning under a
            transformation: look at `condition`).

    Source: Benettin et al. 1980, "Lyapunov characteristic exponents for smooth dynamical systems";
    for recurrent networks Engelken, Wolf, Abbott 2023, "Lyapunov spectra of chaotic recurrent
    neural networks", section II.
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    check_size("interval", interval)
    skipped = -(-transient // interval)
    if transient < 0 or skipped * interval >= total:
        raise ValueError(
            f"transient must be at least 0 and leave some of the T = {total} steps to count "
            f"(it counts in multiples of interval = {interval}), got {transient}"
        )
    _check_segments(segments, interval, skipped, total)
    trajectory = run(cell, params, xs, initial_carry)
    num = growth.checked_num(num, trajectory, len(batch))
    size = carry_size(trajectory.entering, len(batch))
    given = growth.what_grows(cell, trajectory)
    if isinstance(cell, Linear):
        segments = 1  # the logarithms of all steps are there at once
    found, worst = _spectrum(cell, len(batch), num, interval, skipped, segments, size, given)
    if isinstance(cell, Linear):
        worst, interval = jnp.ones(()), 1  # the axes stay orthogonal whatever their lengths
    if not isinstance(found.exponents, Tracer):
        _warn(found.exponents, float(jnp.max(worst, initial=1)), interval)
    return found


def _check_segments(segments, interval, skipped, total):
    check_size("segments", segments)
    if segments == 1:
        return
    counted = total - skipped * interval
    if skipped == 0:
        raise ValueError(
            f"segments = {segments} needs a transient above 0, because the vectors of each segment "
            "start at random"
        )
    if segments * interval > counted:
        raise ValueError(
            f"segments must be at most {counted // interval}, so that each counts interval = "
            f"{interval} of the {counted} steps after the transient, got {segments}"
        )


def _warn(exponents, worst, interval):
    """Warn of exponents of -inf, and of a condition number `worst` that spoils the others."""
    bound, num = 0.1 / float(jnp.finfo(exponents.dtype).eps), exponents.shape[-1]
    lost = int(jnp.max(jnp.sum(exponents == -jnp.inf, -1), initial=0))
    if lost and interval == 1:
        _say(
            f"{lost} of {num} exponents are -inf: Jacobians are singular, they contract these "
            "directions to zero within one step, as of states that follow from others in the carry "
            "(x and tanh(x)) or from the input alone, or of dead units; the other exponents are "
            f"right, and num={num - lost} leaves these out"
        )
    elif lost:
        _say(
            f"with interval={interval} the condition number of Q reaches infinity, and {lost} of "
            f"{num} exponents are -inf: Jacobians are singular, or the vectors became parallel "
            "between two factorisations; take interval=1 to tell"
        )
    if worst > bound:
        remedy = "compute in float64" if interval == 1 else "take a smaller one"
        _say(
            f"with interval={interval} the condition number of Q reaches {worst:.1e}, beyond "
            f"{bound:.1e} for {exponents.dtype}: the last exponents are wrong; {remedy}"
        )


def _say(message):
    warnings.warn(message, RuntimeWarning, stacklevel=5)  # where lyapunov_spectrum is called


@functools.partial(
    jax.jit,
    static_argnames=("cell", "batch_ndim", "num", "interval", "skipped", "segments", "size"),
)
def _spectrum(cell, batch_ndim, num, interval, skipped, segments, size, given):
    """Return the spectrum, and the condition number of the directions that last."""
    total, parallel = jax.tree.leaves(given[1])[0].shape[0], segments > 1
    if parallel:
        given, total = _apart(given, segments, interval, skipped)
    every = growth.log_growth(cell, batch_ndim + parallel, num, interval, skipped, given)
    counted = (total - skipped * interval) * segments
    logs = every[skipped:]
    if parallel:
        logs = jnp.swapaxes(logs, 0, 1)  # segment after segment
        every, logs = (a.reshape(-1, *a.shape[2:]) for a in (every, logs))
    return _summary(every, logs, counted, size)


def _apart(given, segments, interval, skipped):
    """Return the segments side by side, leaves `[steps, segments, *batch, ...]`, and `steps`."""
    ready, steps = given
    total, before = jax.tree.leaves(steps)[0].shape[0], skipped * interval
    length = (total - before) // (segments * interval) * interval
    first = total - before - segments * length + length * jnp.arange(segments)
    index = first + jnp.arange(before + length)[:, None]
    return (ready, jax.tree.map(lambda a: a[index], steps)), before + length


def _summary(every, logs, counted, size):
    """Return the spectrum, and the condition number of the directions that last.

    Args:
        every: logs of the growth of each vector in each interval, `[intervals, *batch, num]`.
        logs: those that are counted, in the order of time.
        counted: number of steps in these.
        size: N.
    """
    exponents = jnp.sum(logs, axis=0) / counted
    lasting = exponents > -jnp.inf
    largest = jnp.max(every, axis=-1, where=lasting, initial=-jnp.inf)
    smallest = jnp.min(every, axis=-1, where=lasting, initial=jnp.inf)
    worst = jnp.exp(jnp.max(largest - smallest, axis=0, initial=0))  # of the directions that last
    means = block_means(logs / (counted / logs.shape[0]))
    order = jnp.argsort(-exponents, axis=-1)
    exponents = jnp.take_along_axis(exponents, order, axis=-1)
    means = jnp.take_along_axis(means, order[None], axis=-1)
    condition = jnp.where(jnp.all(lasting, axis=-1), worst, jnp.inf)
    dimensions = jnp.full(condition.shape, size)
    error = error_of_mean(means)
    return LyapunovSpectrum(exponents, error, condition, means, dimensions), worst


def block_means(rates: Array) -> Array:
    """Return the means over at most 20 successive blocks of equal length, `[blocks, ...]`."""
    blocks = min(BLOCKS, rates.shape[0])
    size = rates.shape[0] // blocks
    return rates[: blocks * size].reshape(blocks, size, *rates.shape[1:]).mean(axis=1)


def error_of_mean(means: Array) -> Array:
    """Return the standard error of the mean over the leading axis, NaN for fewer than two."""
    if means.shape[0] < 2:
        return jnp.full(means.shape[1:], jnp.nan, means.dtype)
    return jnp.std(means, axis=0, ddof=1) / means.shape[0] ** 0.5
