"""The gradient of a gated cell, split into paths through the recurrent product and around it."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.linear import need_gated, one_step, precise, pull_apart, run
from rnnjax.recurrence.carries import expand, norm, normalise, partition
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import check_like

PyTree = Any


class CarouselSplit(NamedTuple):
    """What `log_carousel_profile` returns: natural logs of norms, `[T, *batch]`."""

    carousel: Any  # the part that never passes the recurrent kernel
    rest: Any  # the part that passes it at least once
    joint: Any  # their sum, the whole gradient
    parts: Any  # a pytree like the carry: the whole gradient at each part of it


@precise
def log_carousel_profile(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    cotangent: PyTree,
    initial_carry: PyTree = None,
    *,
    seq_lengths: Any = None,
) -> CarouselSplit:
    """Return ln of the gradient's norm at every step, split into the error carousel and the rest.

        v_t = e_t + r_t,   e_t = E_t^T e_{t+1},   r_t = J_t^T r_{t+1} + (J_t - E_t)^T e_{t+1}

    where E_t is the elementwise part of J_t = E_t + (d s_{t+1} / d(h_t U)) U^T, and e_T the
    cotangent. For an LSTM e is the product of its forget gates times the cotangent of c, for a GRU
    the product of its z times the cotangent of h; an Elman network has none. The two parts may
    cancel, so either can be larger than the whole. Entry t is about s_t, at lag T - t. `parts` is
    what `log_gradient_profile_by_part` returns, without a second pass over the steps.

    Args:
        cell, params, xs, initial_carry: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        cotangent: dL/ds_T, a pytree like the carry.
        seq_lengths: valid steps of each sequence; after its end E = J is the identity.

    Raises:
        TypeError: the cell is not gated.
        ValueError: a shape does not fit, as for `unroll`, or `cotangent` is unlike the carry.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", section 3.1 (the carousel).
    """
    need_gated(cell, "log_carousel_profile")
    batch, trajectory = batch_shape(cell, xs), run(cell, params, xs, initial_carry, seq_lengths)
    check_like(cotangent, one_step(trajectory.entering), "cotangent")
    lengths = None if seq_lengths is None else jnp.asarray(seq_lengths)
    return _log_carousel_profile(
        cell, len(batch), trajectory.ready, trajectory.steps, cotangent, lengths
    )


@functools.partial(jax.jit, static_argnames=("cell", "batch_ndim"))
def _log_carousel_profile(cell, batch_ndim, ready, steps, cotangent, lengths):
    floats, merge = partition(steps[0])

    def pull(now, later):
        t, step = now
        parts = pull_apart(cell, ready, step, later)
        if lengths is None:
            return parts
        unchanged = later, [jnp.zeros_like(v) for v in later]
        return jax.tree.map(lambda a, b: jnp.where(expand(t < lengths, a), a, b), parts, unchanged)

    def pull_back(state, now):
        """Carry one unit vector each for the whole, the carousel and the rest.

        `ratio` is ln of the carousel's norm over that of the rest (over its own while there is no
        rest). The three are kept apart because where carousel and rest cancel, they can outgrow the
        whole by more than the type can hold.
        """
        whole, carousel, rest, ratio = state
        whole, growth = normalise(_add(*pull(now, whole)), batch_ndim)
        direct, injected = pull(now, carousel)
        carousel, factor = normalise(direct, batch_ndim)
        scale = jnp.maximum(ratio, 0)
        kept, share = jnp.exp(-scale), jnp.exp(ratio - scale)
        rest = [expand(kept, v) * v for v in _add(*pull(now, rest))]
        rest, gain = normalise(_add(rest, [expand(share, v) * v for v in injected]), batch_ndim)
        growth, factor, gain, alive = jnp.log(growth), jnp.log(factor), jnp.log(gain), gain > 0
        change = jnp.where(alive, scale + gain, ratio + factor)
        ratio = jnp.where(alive, ratio + factor - change, 0)
        parts = [jnp.log(norm([v], batch_ndim)) for v in whole]
        return (whole, carousel, rest, ratio), ((factor, change, growth), alive, parts)

    floating = partition(cotangent, like=steps[0])[0]
    start = [c.astype(s.dtype) for c, s in zip(floating, floats, strict=True)]
    whole, length = normalise(start, batch_ndim)
    state = whole, whole, [jnp.zeros_like(v) for v in whole], jnp.zeros_like(length)
    now = jnp.arange(floats[0].shape[0]), steps
    _, (factors, alive, parts) = lax.scan(pull_back, state, now, reverse=True)
    # Stacked: one associative scan compiles in a third of the time of three.
    sums = lax.associative_scan(jnp.add, jnp.stack(factors, axis=1), reverse=True)
    carousel, rest, joint = (jnp.log(length) + sums[:, i] for i in range(3))
    nowhere = jax.tree.map(lambda _: jnp.full_like(joint, -jnp.inf), steps[0])
    parts = merge([joint + part for part in parts], nowhere)
    return CarouselSplit(carousel, jnp.where(alive, rest, -jnp.inf), joint, parts)


def _add(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]
