"""Which steps the gradient of the parameters comes from, and how much of it is signal."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.adjoints import arriving_along
from rnnjax.diagnostics.linear import precise, run
from rnnjax.diagnostics.tracing import exact
from rnnjax.recurrence.carries import flatten, partition
from rnnjax.recurrence.inputs import batch_shape

PyTree = Any


@precise
def parameter_gradient_by_lag(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    initial_carry: PyTree = None,
) -> PyTree:
    """Return what each step contributes to dL/dtheta; the contributions add up to dL/dtheta.

        g_t = (d s_{t+1} / d theta)^T dL/ds_{t+1},   sum over t of g_t = dL/dtheta

    with the first factor at fixed s_t, and dL/ds_{t+1} the total derivative, output y_t included.
    theta are the raw parameters; the gradient passes back through `cell.prepare`.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        loss: any function of the outputs `[T, *batch, H]` to a scalar. With a loss at the last
            step only, g_t is the part of lag T - t; a loss at every step mixes lags.

    Returns:
        A pytree like `params` with a leading T, so T times their memory.

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `loss` returns no scalar.
        FloatingPointError: a carry is not finite.

    Source: Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural
    networks", equations 3 and 4 (temporal components).
    """
    steps, arriving = _along(cell, params, xs, loss, initial_carry)
    return _gradients(cell, params, xs, steps, arriving)


@precise
def truncation_errors(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    initial_carry: PyTree = None,
) -> Float[Array, " T"]:
    """Return the norm of what back-propagation through the last k steps misses, k = 0 .. T - 1.

        e_k = || sum over t < T - k of g_t ||,   e_0 = ||dL/dtheta||,   e_T = 0

    with the g_t of `parameter_gradient_by_lag`, all parameters together: exact for all windows at
    once if the loss is that of the last step. Arguments and errors as there.
    """
    parts = parameter_gradient_by_lag(cell, params, xs, loss, initial_carry)
    parts = flatten(partition(parts, like=params)[0], 1)
    return jnp.linalg.norm(jnp.cumsum(parts, axis=0)[::-1], axis=-1)


@precise
def gradient_signal_to_noise(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    initial_carry: PyTree = None,
) -> Float[Array, " T"]:
    """Return ||E g_t||^2 / E ||g_t - E g_t||^2 over the examples of a batch, for every step t.

    g_t is one example's part of the gradient that `parameter_gradient_by_lag` returns, all
    parameters together. The ratio is that of a single example's gradient; a batch of B has B times
    as much. B examples of pure noise give about 1 / (B - 1), because E is their own mean. Zero
    where there is no gradient. Arguments and errors as for `parameter_gradient_by_lag`; the batch
    needs two examples.
    """
    batch = batch_shape(cell, xs)
    if len(batch) != 1 or batch[0] < 2:
        raise ValueError(f"xs must have shape [T, B, D] with B of at least 2, got batch {batch}")
    steps, arriving = _along(cell, params, xs, loss, initial_carry)
    return _signal_to_noise(cell, params, xs, steps, arriving)


def _along(cell, params, xs, loss, initial_carry):
    trajectory = run(cell, params, xs, initial_carry)
    return trajectory.entering, arriving_along(cell, trajectory, loss)


def _local(cell, prepared, x, carry, arriving):
    """Return the gradient of the raw parameters through one step."""
    ready, pull_to_raw = prepared

    def advance(ready):
        return partition(cell.step(ready, carry, cell.project(ready, x)))[0]

    (of_ready,) = jax.vjp(exact(advance), ready)[1](partition(arriving, like=carry)[0])
    return pull_to_raw(of_ready)[0]


@functools.partial(jax.jit, static_argnames="cell")
def _gradients(cell, params, xs, entering, arriving):
    prepared = jax.vjp(cell.prepare, params)
    return lax.map(lambda now: _local(cell, prepared, *now), (xs, entering, arriving))


@functools.partial(jax.jit, static_argnames="cell")
def _signal_to_noise(cell, params, xs, entering, arriving):
    prepared = jax.vjp(cell.prepare, params)

    def one(now):
        own = jax.vmap(functools.partial(_local, cell, prepared))(*now)
        # Relative to the largest entry: squares of small gradients would underflow.
        peak = jnp.max(jnp.stack([jnp.max(jnp.abs(g)) for g in jax.tree.leaves(own)]))
        own = jax.tree.map(lambda g: g / jnp.where(peak > 0, peak, 1), own)
        mean = jax.tree.map(lambda g: g.mean(0), own)
        signal = sum(jnp.sum(jnp.abs(m) ** 2) for m in jax.tree.leaves(mean))
        away = jax.tree.map(lambda g, m: jnp.sum(jnp.abs(g - m) ** 2) / g.shape[0], own, mean)
        noise = sum(jax.tree.leaves(away))
        return jnp.where(peak > 0, signal / jnp.where(peak > 0, noise, 1), 0)

    return lax.map(one, (xs, entering, arriving))
