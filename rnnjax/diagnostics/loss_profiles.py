"""How the gradient of a loss falls with the lag, in one call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics import profiles
from rnnjax.diagnostics.adjoints import output_cotangents, pull_through_output
from rnnjax.diagnostics.linear import follow, precise, scan_back
from rnnjax.recurrence.carries import expand, norm, normalise, partition
from rnnjax.recurrence.inputs import batch_shape

PyTree = Any


class GradientProfile(NamedTuple):
    """ln ||dL/ds_{T-k}|| at the lags k = 1 .. T, as `gradient_profile` returns it.

    -inf is a gradient that is exactly zero. NaN marks lags that reach back beyond the start of a
    sequence that is shorter than T.
    """

    lags: Any  # [T] integers 1 .. T
    log_norms: Any  # [T, *batch] natural logs, the whole carry
    parts: Any  # a pytree like the carry, leaves [T, *batch]: the same for each part of it
    at_end: Any  # [*batch] ln ||dL/ds_T||, lag 0

    def relative(self) -> Float[Array, "T *batch"]:
        """Return ln(||dL/ds_{T-k}|| / ||dL/ds_T||): `log_norms` minus `at_end`.

        Meant for a loss at the last step, where it starts near 0 whatever the size of the loss.
        """
        return self.log_norms - self.at_end

    def median(self) -> Float[Array, " T"]:
        """Return the median over examples of `log_norms`, NaN at lags that some example lacks."""
        return _quantile(self.log_norms.reshape(self.lags.size, -1), 0.5)

    def quartiles(self) -> dict[str, Float[Array, " T"]]:
        """Return `median`, `q25` and `q75` over examples, at each lag. NaN as for `median`."""
        rows = self.log_norms.reshape(self.lags.size, -1)
        levels = {"median": 0.5, "q25": 0.25, "q75": 0.75}
        return {name: _quantile(rows, level) for name, level in levels.items()}

    def decay_rate(self) -> Float[Array, ""]:
        """Return the rate r of the fit ln ||dL/ds_{T-k}|| = a - r k, in nats per step.

        The fit is `diagnostics.decay_rate` of the median over examples. For one rate per example
        call that function with `log_norms`.
        """
        return profiles.decay_rate(self.median())

    def half_life(self) -> Float[Array, ""]:
        """Return ln 2 / `decay_rate()`: the number of steps over which the median norm halves.

        Infinite where the gradient does not decay. For one half-life per example call
        `diagnostics.half_life` with `log_norms`.
        """
        return profiles.half_life(self.median())


@precise
def gradient_profile(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array], Array],
    initial_carry: PyTree = None,
    *,
    seq_lengths: Any = None,
) -> GradientProfile:
    """Return ln ||dL/ds_{T-k}|| for every lag k, each example by itself.

        a_t = J_t^T (a_{t+1} + (d y_t / d s_{t+1})^T dL/dy_t),   a_T = 0,   L = loss(outputs)

    s_t is the carry that enters step t, and a_t = dL/ds_t the total derivative that `adjoints`
    returns. Here a_t is kept as a unit vector and the logarithm of its norm, so it does not
    underflow: norms of e^-1000 and less are right in float32. With a loss at the last step only,
    the profile is that of the backward product of Jacobians alone. A loss at several steps adds
    short paths, which hide how the long ones vanish.

        profile = gradient_profile(cell, params, xs, lambda ys: (ys[-1] ** 2).sum())
        profile.half_life()

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        loss: any function of the outputs `[T, *batch, H]` to a scalar. Sum over examples: a mean
            divides the gradient of each by their number.
        seq_lengths: valid steps of each sequence, `[*batch]`. Lags count from each sequence's own
            end, and outputs past it are zeros, so the loss should read its last valid output, such
            as `ys[seq_lengths - 1, jnp.arange(B)]`.

    Raises:
        ValueError: a shape does not fit, as for `unroll`, or `loss` returns no scalar.
        FloatingPointError: a carry is not finite.

    Source: Werbos 1990, "Backpropagation through time", equation 12 (ordered derivatives);
    Hochreiter & Schmidhuber 1997, section 3.1 (how they shrink with the lag).
    """
    ndim = len(batch_shape(cell, xs))
    trajectory = follow(cell, params, xs, initial_carry, seq_lengths)
    total = trajectory.outputs.shape[0]
    lengths = None if seq_lengths is None else jnp.asarray(seq_lengths)
    slopes = output_cotangents(loss, trajectory.outputs)
    joint, parts, at_end = _profile(cell, ndim, trajectory, xs, slopes, lengths)
    ends = jnp.full(joint.shape[1:], total) if lengths is None else lengths

    def from_end(logs):
        lag = jnp.arange(1, total + 1).reshape(total, *(1 for _ in ends.shape))
        found = jnp.take_along_axis(logs, jnp.maximum(ends - lag, 0), axis=0)
        return jnp.where(lag <= ends, found, jnp.nan)

    return GradientProfile(
        jnp.arange(1, total + 1), from_end(joint), jax.tree.map(from_end, parts), at_end
    )


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim"))
def _profile(cell, batch_ndim, trajectory, xs, slopes, lengths):
    floats, merge = partition(trajectory.entering)
    times = jnp.arange(floats[0].shape[0])
    if lengths is not None:
        valid = times.reshape(-1, *(1 for _ in lengths.shape)) < lengths
        slopes = jnp.where(valid[..., None], slopes, 0)
    read = pull_through_output(cell, trajectory, slopes)
    read = lax.optimization_barrier(read)  # or XLA folds the zeros of unread parts, slowly
    read, length = normalise(read, 1 + batch_ndim)
    arrivals = jnp.log(length.astype(jnp.promote_types(length.dtype, jnp.float32)))

    def step_back(later, pull, now):
        t, read, arrival = now
        unit, log, lost = later  # the gradient that arrives from later steps: e^(log - lost) unit
        top = jnp.maximum(log, arrival)
        finite = jnp.where(top > -jnp.inf, top, 0)
        passed, added = jnp.exp(log - finite - lost), jnp.exp(arrival - finite)
        whole = [
            (expand(passed, v) * v + expand(added, r) * r).astype(v.dtype)
            for v, r in zip(unit, read, strict=True)
        ]
        earlier = pull(whole)
        if lengths is not None:
            earlier = [jnp.where(expand(t < lengths, v), v, 0) for v in earlier]
        unit, length = normalise(earlier, batch_ndim)
        log, lost = _add(finite, jnp.log(length).astype(top.dtype))
        return (unit, log, lost), (log, [jnp.log(norm([v], batch_ndim)) for v in unit])

    nothing = [jnp.zeros(s.shape[1:], s.dtype) for s in floats]
    none = jnp.full(arrivals.shape[1:], -jnp.inf, arrivals.dtype)
    start = nothing, none, jnp.zeros_like(none)
    along = times, read, arrivals
    joint, parts = scan_back(cell, trajectory, xs, step_back, start, along)
    nowhere = jax.tree.map(lambda _: jnp.full_like(joint, -jnp.inf), trajectory.entering)
    if not len(times):
        at_end = none
    elif lengths is None:
        at_end = arrivals[-1]
    else:
        last = jnp.maximum(lengths - 1, 0)[None]
        at_end = jnp.take_along_axis(arrivals, last, axis=0)[0]
    return joint, merge([joint + part for part in parts], nowhere), at_end


def _add(a, b):
    """Return the rounded sum of a and b, and its rounding error (Kahan 1965).

    Without the error thousands of roundings of one sign would add up.
    """
    total = a + b
    lost = (total - a) - b
    return total, jnp.where(jnp.isfinite(lost), lost, 0)


def _quantile(rows, level):
    """Return a quantile over the last axis, by the rule of `profiles.quartiles`; NaN where one is.

    Where two ranks are equally near it is their mean, or the lower one where some value is
    infinite.
    """
    ordered, count = jnp.sort(rows, axis=-1), rows.shape[-1]
    rank = level * count
    upper = ordered[..., min(int(rank), count - 1)]
    lower = ordered[..., int(rank) - 1] if rank == int(rank) else upper
    found = jnp.where(jnp.isinf(rows).any(), lower, (lower + upper) / 2)
    return jnp.where(jnp.isnan(rows).any(-1), jnp.nan, found)
