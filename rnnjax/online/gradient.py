"""Gradients in one pass forward: of a sequence, and of a stretch of a stream."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.online.base import Method
from rnnjax.recurrence.inputs import batch_shape, check_params
from rnnjax.recurrence.options import checked_flags, settle_dtypes, start_carry
from rnnjax.recurrence.sequential import unroll
from rnnjax.recurrence.steps import where

PyTree = Any


class State(NamedTuple):
    """What goes on from one step of a stream to the next: arrays `[*batch, ...]`."""

    carry: PyTree
    traces: PyTree


def start(
    method: Method | None,
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree = None,
    *,
    key: Array | None = None,
) -> State:
    """Return the state in which a stream begins.

    Args:
        method: such as `online.RTRL()`; None for back-propagation within stretches.
        cell, params, xs, initial_carry: as for `rnnjax.unroll`; only the shapes of `xs` count.
        key: for methods that draw numbers.

    Raises:
        TypeError: the method cannot serve the cell; what it needs.
        ValueError: as for `unroll`.
    """
    check_params(cell, params, xs)
    batch = batch_shape(cell, xs)
    given = start_carry(cell, initial_carry, batch, "initial_carry")
    carry = settle_dtypes(cell, cell.prepare(params), xs, given)
    if method is None:
        return State(carry, ())
    first = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), xs)
    return State(carry, method.init(cell, params, carry, first, key))


def value_and_gradient(
    method: Method | None,
    cell: Cell,
    params: tuple[PyTree, PyTree],
    state: State,
    xs: PyTree,
    loss: Callable[[PyTree, Array, Any], Array],
    now: PyTree = None,
    *,
    resets: Any = None,
) -> tuple[Array, tuple[PyTree, PyTree], State]:
    """Return the summed loss of a stretch of a stream, its gradient, and the state after it.

        L = sum over t of l_t,   l_t = loss(head, y_t, now_t)
        dL/dtheta = sum over t of (ds_{t+1}/dtheta)^T dl_t/ds_{t+1},   dL/dhead = sum of dl_t/dhead

    with ds/dtheta as the method has it; it reaches back beyond the stretch, to the start of the
    stream. Parameters may differ from one stretch to the next. Traces then mix derivatives at old
    and new ones, as if the parameters had never changed (Williams, Zipser 1989, "A learning
    algorithm for continually running fully recurrent neural networks"): the gradient is exact for
    parameters that stay, and close to it while they change little within the time over which the
    state forgets.

    Args:
        method: such as `online.RTRL()`. None is back-propagation within the stretch: it does not
            reach back beyond it, and keeps what it needs of the whole stretch.
        cell: the cell.
        params: those of the cell, and those of the head, a pytree that only `loss` reads.
        state: from `start`, or from the stretch before.
        xs: inputs `[T, *batch, D]`.
        loss: a function of the head, the outputs of a step `[*batch, H]` and `now_t` to a scalar.
        now: what `loss` needs at each step, such as targets: a pytree with leaves `[T, ...]`.
        resets: `[T, *batch]`, before which steps a sequence begins again from the initial carry of
            the cell.

    Raises:
        TypeError: the method cannot serve the cell; what it needs.
        ValueError: as for `unroll`.
    """
    if method is None:
        return _back(cell, params, state, xs, loss, now, resets)
    return _forward(
        method, cell, params, state, xs, lambda head, y, now, t: loss(head, y, now), now, resets
    )


def gradient(
    method: Method,
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss: Callable[[Array, Array], Array],
    initial_carry: PyTree = None,
    *,
    key: Array | None = None,
    resets: Any = None,
) -> tuple[PyTree, PyTree]:
    """Return the gradient of the summed loss, in one pass forward, and the final carry.

        dL/dtheta = sum over t of (ds_{t+1}/dtheta)^T dl_t/ds_{t+1},   l_t = loss(y_t, t)

    with ds/dtheta as the method has it: exactly for `RTRL`. Memory does not grow with T.

    Args:
        method: such as `online.RTRL()`.
        cell, params, xs, initial_carry: as for `rnnjax.unroll`.
        loss: a function of the outputs of a step `[*batch, H]` and its number to a scalar.
        key: for methods that draw numbers.
        resets: `[T, *batch]`, before which steps a sequence begins again from the initial carry of
            the cell.

    Raises:
        TypeError: the method cannot serve the cell; what it needs.
        ValueError: as for `unroll`.
    """
    xs = jax.tree.map(jnp.asarray, xs)
    state = start(method, cell, params, xs, initial_carry, key=key)
    _, (found, _), state = _forward(
        method, cell, (params, ()), state, xs, lambda head, y, now, t: loss(y, t), None, resets
    )
    return found, state.carry


def _back(cell, params, state, xs, loss, now, resets):
    def total(params):
        carry, ys = unroll(cell, params[0], xs, state.carry, resets=resets)
        return jax.vmap(functools.partial(loss, params[1]))(ys, now).sum(), carry

    (value, carry), found = jax.value_and_grad(total, has_aux=True)(params)
    return value, found, State(carry, ())


def _forward(method, cell, params, state, xs, loss, now, resets):
    """Return `value_and_gradient` of `loss(head, y_t, now_t, t)`."""
    xs = jax.tree.map(jnp.asarray, xs)
    total, batch = jax.tree.leaves(xs)[0].shape[0], batch_shape(cell, xs)
    check_params(cell, params[0], xs)
    fresh = None
    if resets is not None:
        resets = checked_flags("resets", resets, (total, *batch))
        fresh = start(method, cell, params[0], xs, key=jax.random.key(0))  # `reset` keeps keys

    def score(head, carry, now, t):
        return loss(head, cell.output(carry), now, t)

    def one(kept, given):
        (carry, traces), value, found, t = kept
        x, now, reset = given
        if fresh is not None:
            carry = where(reset, fresh.carry, carry)
            traces = method.reset(traces, fresh.traces, reset)
        carry, traces = method.step(cell, params[0], carry, traces, x)
        both = jax.value_and_grad(score, (0, 1), allow_int=True)
        added, (of_head, slope) = both(params[1], carry, now, t)
        by_step = method.gradient(cell, params[0], carry, traces, x, slope), of_head
        found = jax.tree.map(jnp.add, found, by_step)
        return (State(carry, traces), value + added, found, t + 1), None

    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), now)
    value = jax.eval_shape(score, params[1], state.carry, first, 0)
    kept = state, jnp.zeros(value.shape, value.dtype), jax.tree.map(jnp.zeros_like, params), 0
    (state, value, found, _), _ = lax.scan(one, kept, (xs, now, resets))
    return value, found, state


def in_stretches(
    update: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], kept: PyTree, xs: PyTree, every: int
) -> tuple[PyTree, PyTree]:
    """Return `lax.scan` of `update` over stretches of `every` steps; the last may be shorter.

    Args:
        update: `update(kept, stretch) -> (kept, metrics)`, such as an update of the parameters by
            `value_and_gradient`.
        kept: what goes on from one stretch to the next.
        xs: a pytree with leaves `[T, ...]`; a stretch has leaves `[every, ...]`.
        every: steps of a stretch.

    Returns:
        What is kept at the end, and the metrics of all stretches, in order.

    Raises:
        ValueError: `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    total = jax.tree.leaves(xs)[0].shape[0]
    whole = total - total % every

    def cut(x):
        return x[:whole].reshape(whole // every, every, *x.shape[1:])

    kept, found = lax.scan(update, kept, jax.tree.map(cut, xs))
    if whole < total:
        kept, last = update(kept, jax.tree.map(lambda x: x[whole:], xs))
        found = jax.tree.map(lambda a, b: jnp.concatenate([a, jnp.asarray(b)[None]]), found, last)
    return kept, found


def largest(traces: PyTree) -> Array:
    """Return the largest absolute value in traces, or in any pytree; NaN if there is one.

    As a metric of a training step it stops a member whose traces are no longer finite.
    """
    leaves = [x for x in jax.tree.leaves(traces) if jnp.issubdtype(x.dtype, jnp.inexact)]
    found = [jnp.max(jnp.abs(x), initial=0) for x in leaves]
    return jnp.max(jnp.stack([x.astype(jnp.float32) for x in found])) if found else jnp.zeros(())
