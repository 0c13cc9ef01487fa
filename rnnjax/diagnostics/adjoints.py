"""How a loss depends on the carry at every step: adjoints, and their norms in log space.

Entry t of every result is about s_t, the whole carry that enters step t, at lag k = T - t. The time
index is stated in `rnnjax.diagnostics`; J_t = d s_{t+1} / d s_t.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import (
    Trajectory,
    follow,
    linearise,
    one_step,
    precise,
    run,
    scan_back,
)
from rnnjax.recurrence.carries import expand, norm, normalise, partition
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import check_like

PyTree = Any


@precise
def adjoints(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    initial_carry: PyTree = None,
) -> PyTree:
    """Return dL/ds_t for every t: the total derivative, through every later step and output.

        a_t = J_t^T (a_{t+1} + (d y_t / d s_{t+1})^T dL/dy_t),   a_T = 0,   L = loss(outputs)

    One forward and one backward pass. The results are plain numbers and underflow at long lags,
    where `gradient_profile` and `log_gradient_profile` do not. Differentiating with respect to the
    stacked outputs instead would miss every path through the recurrence.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        loss: any function of the outputs `[T, *batch, H]` to a scalar. Sum over examples: a mean
            divides the adjoints of each by their number.

    Returns:
        A pytree like the carry with a leading T; zeros for integer leaves. Complex leaves follow
        JAX's convention, dL/dx - i dL/dy for z = x + i y.

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `loss` returns no scalar.

    Source: Werbos 1990, "Backpropagation through time", equation 12 (ordered derivatives).
    """
    return adjoints_along(cell, run(cell, params, xs, initial_carry), loss)


@precise
def log_gradient_profile(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    cotangent: PyTree,
    initial_carry: PyTree = None,
    *,
    seq_lengths: Any = None,
) -> Float[Array, "T *batch"]:
    """Return ln ||(d s_T / d s_t)^T cotangent|| for every t, each example by itself.

        v_T = cotangent,   v_t = J_t^T v_{t+1}

    v is renormalised at every step and the logs of its norms are summed pairwise, so the result is
    right in float32 at any T. The slopes of saturated units do not round to zero. -inf means a
    gradient that is exactly zero, or a single step that shrinks it by more than the type can hold
    (1e-38). Subtract ln ||cotangent|| to start at 0.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        cotangent: dL/ds_T or any other direction, a pytree like the carry, `[*batch, ...]`.
        seq_lengths: valid steps of each sequence, `[*batch]`. After a sequence's end J is the
            identity, so s_T is the carry at its own end.

    Returns:
        Natural logs `[T, *batch]`. Entry t is at lag T - t (`seq_lengths` - t, if given).

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `cotangent` is unlike the carry.
    """
    return _profile(cell, params, xs, cotangent, initial_carry, seq_lengths, by_part=False)


@precise
def log_gradient_profile_by_part(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    cotangent: PyTree,
    initial_carry: PyTree = None,
    *,
    seq_lengths: Any = None,
) -> PyTree:
    """Return `log_gradient_profile` split by leaf of the carry: a pytree like it, `[T, *batch]`.

    For an LSTM, `.c` is ln ||(d s_T / d c_t)^T cotangent|| and `.h` the same for h_t; their
    squares add up to the square of the whole. -inf for integer leaves. Arguments and errors as for
    `log_gradient_profile`.
    """
    return _profile(cell, params, xs, cotangent, initial_carry, seq_lengths, by_part=True)


def adjoints_along(cell: Any, trajectory: Trajectory, loss: Callable) -> PyTree:
    """Return `adjoints` of a given trajectory."""
    return _adjoints(cell, trajectory, output_cotangents(loss, trajectory.outputs))[0]


def arriving_along(cell: Any, trajectory: Trajectory, loss: Callable) -> PyTree:
    """Return dL/ds_{t+1} for every t, the contribution of output y_t included."""
    return _adjoints(cell, trajectory, output_cotangents(loss, trajectory.outputs))[1]


def output_cotangents(loss: Callable, outputs: Array) -> Array:
    """Return dL/dy_t for every t, like the outputs.

    Raises:
        ValueError: `loss` returns no scalar.
    """
    if (shape := jax.eval_shape(loss, outputs).shape) != ():
        raise ValueError(f"loss must return a scalar, got shape {shape}")
    return jax.grad(loss)(outputs)


def pull_through_output(cell: Any, trajectory: Trajectory, slopes: Array) -> list[Array]:
    """Return (d y_t / d s_{t+1})^T dL/dy_t for every t: what the output adds to the adjoints."""
    floats, merge = partition(trajectory.after)

    def read_out(floats):
        return cell.output(merge(floats))

    return jax.vjp(read_out, floats)[1](slopes)[0]


def _profile(cell, params, xs, cotangent, initial_carry, seq_lengths, *, by_part):
    batch, trajectory = batch_shape(cell, xs), follow(cell, params, xs, initial_carry, seq_lengths)
    check_like(cotangent, one_step(trajectory.entering), "cotangent")
    lengths = None if seq_lengths is None else jnp.asarray(seq_lengths)
    where = trajectory, xs, cotangent, lengths
    return _log_profile(cell, len(batch), *where, by_part=by_part)


@functools.partial(jax.jit, static_argnames="cell")
def _adjoints(cell, trajectory, slopes):
    floats, merge = partition(trajectory.entering)
    read = pull_through_output(cell, trajectory, slopes)

    def pull_back(later, now):
        step, read = now
        later = [a + b for a, b in zip(later, read, strict=True)]
        earlier = linearise(cell, trajectory.ready, step)[1](later)
        return earlier, (earlier, later)

    nothing = [jnp.zeros(s.shape[1:], s.dtype) for s in floats]
    _, found = lax.scan(pull_back, nothing, (trajectory.steps, read), reverse=True)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape), trajectory.entering)
    return tuple(merge(leaves, zeros) for leaves in found)


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim", "by_part"))
def _log_profile(cell, batch_ndim, trajectory, xs, cotangent, lengths, *, by_part):
    def step_back(later, pull, t):
        earlier = pull(later)
        if lengths is not None:
            earlier = [
                jnp.where(expand(t < lengths, new), new, old)
                for new, old in zip(earlier, later, strict=True)
            ]
        unit, length = normalise(earlier, batch_ndim)
        return unit, (length, [norm([v], batch_ndim) for v in unit] if by_part else None)

    floats, merge = partition(trajectory.entering)
    floating = partition(cotangent, like=trajectory.entering)[0]
    unit, length = normalise(
        [c.astype(s.dtype) for c, s in zip(floating, floats, strict=True)], batch_ndim
    )
    times = jnp.arange(floats[0].shape[0])
    factors, parts = scan_back(cell, trajectory, xs, step_back, unit, times)
    # A running float32 sum would drift by a rounding error a step, all of one sign where the
    # factors are equal; pairwise sums do not.
    joint = jnp.log(length) + lax.associative_scan(jnp.add, jnp.log(factors), reverse=True)
    if not by_part:
        return joint
    nowhere = jax.tree.map(lambda _: jnp.full_like(joint, -jnp.inf), trajectory.entering)
    return merge([joint + jnp.log(part) for part in parts], nowhere)
