"""Lyapunov exponents: the rates at which small differences of the carry grow or die."""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from rnnjax.cells.base import Cell, check_size
from rnnjax.diagnostics import products
from rnnjax.diagnostics.jacobians import carry_size
from rnnjax.diagnostics.linear import linearise, precise, run
from rnnjax.recurrence.carries import flatten, partition, unflatten
from rnnjax.recurrence.options import batch_shape

PyTree = Any
BLOCKS = 20  # over which the standard error is taken


class LyapunovSpectrum(NamedTuple):
    """What `lyapunov_spectrum` returns."""

    exponents: Any  # [*batch, num], nats per step, descending
    standard_error: Any  # [*batch, num], of the mean over time
    condition: Any  # [*batch], the largest condition number of Q before it was orthonormalised


@precise
def lyapunov_spectrum(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    num: int | None = None,
    *,
    interval: int = 1,
    transient: int = 0,
    initial_carry: PyTree = None,
) -> LyapunovSpectrum:
    """Return the leading Lyapunov exponents along one trajectory, each example by itself.

        Q_{t+1} R_{t+1} = J_t Q_t,    lambda_i = mean over t of ln R_ii, per step

    with natural logs. Only `num` vectors are pushed forward. All N exponents add up to the mean of
    ln |det J_t|. N counts real dimensions: a complex entry of the carry has two exponents, so
    z' = a z with complex a has ln |a| twice.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
            With zeros the network runs by itself.
        num: how many exponents; None means all N.
        interval: steps between two factorisations. Q deteriorates by exp((lambda_1 - lambda_num)
            interval) between them.
        transient: number of first steps that are not counted, while the carry approaches the
            attractor and Q its directions; rounded up to a multiple of `interval`.

    Returns:
        Exponents, their standard errors and the largest condition number of Q. The errors come
        from the means over 20 successive blocks of time, because neighbouring steps depend on
        each other; they are NaN with fewer than two factorisations. An exponent is -inf where a
        Jacobian is singular, exactly or up to rounding; the condition number is then infinite.

    Raises:
        ValueError: `num` is not in 1..N, `interval` is not positive, `transient` does not leave a
            step to count, or a shape does not fit.
        FloatingPointError: a carry is not finite.

    Warns:
        RuntimeWarning: Q became too ill-conditioned for its type, and the last exponents may be
            wrong (no warning under a transformation: look at `condition`).

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
    trajectory = run(cell, params, xs, initial_carry)
    size = carry_size(trajectory.entering, len(batch))
    if num is not None and not 1 <= num <= size:
        raise ValueError(
            f"num must lie in 1..N = 1..{size} (the carry's real dimensions), got {num}"
        )
    found = _spectrum(
        cell, len(batch), num or size, interval, skipped, trajectory.ready, trajectory.steps
    )
    if not isinstance(found.condition, Tracer):
        worst = float(jnp.max(found.condition, initial=1))
        bound = 0.1 / float(jnp.finfo(found.exponents.dtype).eps)
        if worst > bound:
            remedy = "compute in float64" if interval == 1 else "take a smaller one"
            warnings.warn(
                f"with interval={interval} the condition number of Q reaches {worst:.1e}, beyond "
                f"{bound:.1e} for {found.exponents.dtype}: unless a Jacobian is singular, so that "
                f"exponents are -inf, the last ones are wrong; {remedy}",
                RuntimeWarning,
                stacklevel=2,
            )
    return found


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim", "num", "interval", "skipped"))
def _spectrum(cell, batch_ndim, num, interval, skipped, ready, steps):
    floats = [leaf[0] for leaf in partition(steps[0])[0]]
    total = jax.tree.leaves(steps)[0].shape[0]
    flat = flatten(floats, batch_ndim)

    def push(leaves, step):
        return jax.vmap(linearise(cell, ready, step)[0])(leaves), None

    def factor(leaves, chunk):
        leaves, _ = lax.scan(push, leaves, chunk)
        q, growth = products.orthonormalise(flatten(leaves, 1 + batch_ndim))
        condition = jnp.max(growth, axis=-1) / jnp.min(growth, axis=-1)
        condition = jnp.where(jnp.isnan(condition), jnp.inf, condition)
        return unflatten(q, floats, batch_ndim), (jnp.log(growth), condition)

    whole = total - total % interval
    chunks = jax.tree.map(
        lambda a: a[:whole].reshape(whole // interval, interval, *a.shape[1:]), steps
    )
    start = jax.random.normal(jax.random.key(0), (num, *flat.shape), flat.dtype)
    vectors = unflatten(products.orthonormalise(start)[0], floats, batch_ndim)
    vectors, (logs, condition) = lax.scan(factor, vectors, chunks)
    if whole < total:  # the remaining steps, fewer than an interval
        _, last = factor(vectors, jax.tree.map(lambda a: a[whole:], steps))
        logs, condition = (
            jnp.concatenate([a, b[None]]) for a, b in zip((logs, condition), last, strict=True)
        )
    logs, counted = logs[skipped:], total - skipped * interval
    exponents = jnp.sum(logs, axis=0) / counted
    error = _standard_error(logs / (counted / logs.shape[0]))
    order = jnp.argsort(-exponents, axis=-1)
    exponents, error = (jnp.take_along_axis(a, order, axis=-1) for a in (exponents, error))
    return LyapunovSpectrum(exponents, error, jnp.max(condition, axis=0))


def _standard_error(rates):
    """Return the standard error of the mean over the leading axis, from means over blocks."""
    blocks = min(BLOCKS, rates.shape[0])
    if blocks < 2:
        return jnp.full(rates.shape[1:], jnp.nan, rates.dtype)
    size = rates.shape[0] // blocks
    means = rates[: blocks * size].reshape(blocks, size, *rates.shape[1:]).mean(axis=1)
    return jnp.std(means, axis=0, ddof=1) / blocks**0.5
