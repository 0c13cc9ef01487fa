"""The gradient of a sequence in one pass forward."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.online.base import Method
from rnnjax.recurrence.inputs import batch_shape, check_params
from rnnjax.recurrence.options import checked_flags, settle_dtypes, start_carry
from rnnjax.recurrence.steps import where

PyTree = Any


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
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    check_params(cell, params, xs)
    xs = jax.tree.map(jnp.asarray, xs)
    carry = settle_dtypes(
        cell, cell.prepare(params), xs, start_carry(cell, initial_carry, batch, "initial_carry")
    )
    again = None
    if resets is not None:
        resets = checked_flags("resets", resets, (total, *batch))
        again = settle_dtypes(
            cell, cell.prepare(params), xs, start_carry(cell, None, batch, "reset_carry")
        )
    zeros = jax.tree.map(jnp.zeros_like, params)
    if not total:
        return zeros, carry
    first = jax.tree.map(lambda x: x[0], xs)
    fresh = method.init(cell, params, carry, first, key)

    def one(state, now):
        carry, traces, found, t = state
        x, reset = now
        if reset is not None:
            carry = where(reset, again, carry)
            traces = method.reset(traces, fresh, reset)
        carry, traces = method.step(cell, params, carry, traces, x)
        slope = jax.grad(lambda s: loss(cell.output(s), t), allow_int=True)(carry)
        added = method.gradient(cell, params, carry, traces, x, slope)
        return (carry, traces, jax.tree.map(jnp.add, found, added), t + 1), None

    (carry, _, found, _), _ = lax.scan(one, (carry, fresh, zeros, 0), (xs, resets))
    return found, carry
