"""Lyapunov exponents: the rates at which small differences of the carry grow or die."""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from rnnjax.cells.base import Cell, check_size
from rnnjax.cells.linear import Linear
from rnnjax.diagnostics import products
from rnnjax.diagnostics.jacobians import carry_size
from rnnjax.diagnostics.linear import linearise, precise, run
from rnnjax.recurrence.carries import flatten, partition, unflatten
from rnnjax.recurrence.inputs import batch_shape

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
        ValueError: `num` is not in 1..N, `interval` is not positive, `transient` does not leave a
            step to count, or a shape does not fit.
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
    trajectory = run(cell, params, xs, initial_carry)
    size = carry_size(trajectory.entering, len(batch))
    if num is not None and not 1 <= num <= size:
        raise ValueError(
            f"num must lie in 1..N = 1..{size} (the carry's real dimensions), got {num}"
        )
    if isinstance(cell, Linear):
        factors = partition(trajectory.inputs[0], trajectory.entering)[0]
        leaves = partition(trajectory.entering)[0]
        found = _of_factors(leaves, factors, len(batch), num or size, interval, skipped)
        worst, interval = jnp.ones(()), 1  # the axes stay orthogonal whatever their lengths
    else:
        found, worst = _spectrum(
            cell, len(batch), num or size, interval, skipped, trajectory.ready, trajectory.steps
        )
    if not isinstance(found.exponents, Tracer):
        _warn(found.exponents, float(jnp.max(worst, initial=1)), interval)
    return found


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
        return unflatten(q, floats, batch_ndim), jnp.log(growth)

    whole = total - total % interval
    chunks = jax.tree.map(
        lambda a: a[:whole].reshape(whole // interval, interval, *a.shape[1:]), steps
    )
    start = jax.random.normal(jax.random.key(0), (num, *flat.shape), flat.dtype)
    vectors = unflatten(products.orthonormalise(start)[0], floats, batch_ndim)
    vectors, every = lax.scan(factor, vectors, chunks)
    if whole < total:  # the remaining steps, fewer than an interval
        _, last = factor(vectors, jax.tree.map(lambda a: a[whole:], steps))
        every = jnp.concatenate([every, last[None]])
    return _summary(every, skipped, total - skipped * interval)


@functools.partial(jax.jit, static_argnames=("batch_ndim", "num", "interval", "skipped"))
def _of_factors(leaves, factors, batch_ndim, num, interval, skipped):
    """Return the spectrum of s' = a s + b, of leaves s and factors a `[T, *batch, ...]`."""
    moduli = []
    for s, a in zip(leaves, factors, strict=True):
        modulus = jnp.abs(a).astype(jnp.finfo(s.dtype).dtype)
        moduli.append(lax.complex(modulus, modulus) if jnp.iscomplexobj(s) else modulus)
    flat = flatten(moduli, 1 + batch_ndim)
    alive = flat > 0  # at zero the logarithm has no slope
    logs = jnp.where(alive, jnp.log(jnp.where(alive, flat, 1)), -jnp.inf)
    total = logs.shape[0]
    whole = total - total % interval
    chunks = logs[:whole].reshape(whole // interval, interval, *logs.shape[1:])
    every = jnp.sum(chunks, axis=1)
    if whole < total:
        every = jnp.concatenate([every, jnp.sum(logs[whole:], axis=0, keepdims=True)])
    order = jnp.argsort(-jnp.sum(every[skipped:], axis=0), axis=-1)[..., :num]
    every = jnp.take_along_axis(every, order[None], axis=-1)
    return _summary(every, skipped, total - skipped * interval)[0]


def _summary(every, skipped, counted):
    """Return the spectrum, and the condition number of the directions that last.

    Args:
        every: logs of the growth of each vector in each interval, `[intervals, *batch, num]`.
        skipped: number of first intervals that are not counted.
        counted: number of steps in the others.
    """
    logs = every[skipped:]
    exponents = jnp.sum(logs, axis=0) / counted
    lasting = exponents > -jnp.inf
    largest = jnp.max(every, axis=-1, where=lasting, initial=-jnp.inf)
    smallest = jnp.min(every, axis=-1, where=lasting, initial=jnp.inf)
    worst = jnp.exp(jnp.max(largest - smallest, axis=0, initial=0))  # of the directions that last
    error = _standard_error(logs / (counted / logs.shape[0]))
    order = jnp.argsort(-exponents, axis=-1)
    exponents, error = (jnp.take_along_axis(a, order, axis=-1) for a in (exponents, error))
    condition = jnp.where(jnp.all(lasting, axis=-1), worst, jnp.inf)
    return LyapunovSpectrum(exponents, error, condition), worst


def _standard_error(rates):
    """Return the standard error of the mean over the leading axis, from means over blocks."""
    blocks = min(BLOCKS, rates.shape[0])
    if blocks < 2:
        return jnp.full(rates.shape[1:], jnp.nan, rates.dtype)
    size = rates.shape[0] // blocks
    means = rates[: blocks * size].reshape(blocks, size, *rates.shape[1:]).mean(axis=1)
    return jnp.std(means, axis=0, ddof=1) / blocks**0.5
