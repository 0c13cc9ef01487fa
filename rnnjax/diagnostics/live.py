"""Scalars about the gradient that are cheap enough for every training step.

    def train_step(state, batch):
        def loss_fn(params, probe):
            _, hidden, carries = rnnjax.unroll(
                cell, params.cell, batch.inputs, norm_probe=probe, return_carries=True
            )
            return ..., carries

        probe = jnp.zeros(batch.inputs.shape[:2])
        (loss, carries), (gradient, norms) = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(
            state.params, probe
        )
        ...
        metrics = {"loss": loss} | adjoint_norms(norms) | update_ratios(updates, state.params)
        metrics |= gate_saturation(cell, state.params.cell, batch.inputs, carries)

All are finite for finite arguments, as a training loop that stops at NaN requires.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rnnjax.cells.base import Cell
from rnnjax.diagnostics.gates import HIGH, LOW, gates_along
from rnnjax.diagnostics.linear import recurrent_products
from rnnjax.recurrence.carries import norm
from rnnjax.recurrence.inputs import batch_shape
from rnnjax.recurrence.options import checked_lags

PyTree = Any


def log_spaced(total: int) -> tuple[int, ...]:
    """Return the lags 1, 2, 5, 10, 20, 50, ... up to `total`."""
    lags = (digit * 10**power for power in range(len(str(total))) for digit in (1, 2, 5))
    return tuple(lag for lag in lags if lag <= total)


def zero_perturbations(cell: Cell, xs: PyTree) -> PyTree:
    """Return zeros for `unroll`'s `perturbations`: a pytree like the carry, with a leading T."""
    total = jax.tree.leaves(xs)[0].shape[0]
    carry = jax.eval_shape(lambda: cell.initial_carry(batch_shape(cell, xs)))

    def zeros(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.zeros((total, *leaf.shape), leaf.dtype if floating else float)

    return jax.tree.map(zeros, carry)


def adjoint_norms(
    norms: Float[Array, "T *batch"], lags: Iterable[int] | None = None
) -> dict[str, Array]:
    """Return the median over the batch of ||dL/ds_{T-k}|| at lags k, as `adjoint_norm_lag_k`.

    s_{T-k} is the carry that enters step T - k. These are norms, because their logarithms may be
    -inf, and they are not relative to lag 0, where the gradient may reach zero in training.

    Args:
        norms: the gradient with respect to `unroll`'s `norm_probe`.
        lags: in 1..T; None means 1, 2, 5, 10, ...

    Raises:
        ValueError: a lag is not in 1..T.
    """
    total = norms.shape[0]
    lags = checked_lags(log_spaced(total) if lags is None else lags, total, "T")
    return {f"adjoint_norm_lag_{lag}": jnp.median(norms[total - lag]) for lag in lags}


def update_ratios(updates: PyTree, params: PyTree) -> dict[str, Array]:
    """Return ||update|| / ||params + update|| for each leaf, as `update_ratio_NAME`.

    Of the raw parameters, which the optimiser sees, not of the effective ones. The ratio is
    relative to the weights after the update, so that weights that start at zero do not make it
    infinite.
    """
    found = {}
    pairs = zip(jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(params), strict=True)
    for (path, update), weights in pairs:
        size, change = norm([weights + update], 0), norm([update], 0)
        ratio = jnp.where(size > 0, change / jnp.where(size > 0, size, 1), 0)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        found["update_ratio" + (f"_{name}" if name else "")] = ratio
    return found


def gate_saturation(
    cell: Any,
    params: PyTree,
    xs: PyTree,
    carries: PyTree,
    lags: Iterable[int] | None = None,
) -> dict[str, Array]:
    """Return mean and saturation of each gate at given lags, as `gate_f_mean`, `_low`, `_high`.

    `_low` and `_high` are the fractions of units and examples below 0.1 and above 0.9 in step
    T - k, averaged over the lags k.

    Args:
        cell, params, xs: as given to `unroll`, xs `[T, *batch, D]`.
        carries: all carries, as `unroll` returned them.
        lags: in 1..T-1, since the carry that enters step 0 is not among `carries`; None means
            1, 2, 5, 10, ...

    Raises:
        ValueError: a lag is not in 1..T-1.
    """
    total = jax.tree.leaves(xs)[0].shape[0]
    lags = checked_lags(log_spaced(total - 1) if lags is None else lags, total - 1, "T-1")
    if not lags:
        return {}
    steps = jnp.array([total - lag for lag in lags])
    carry = jax.tree.map(lambda s: s[steps - 1], carries)
    ready = cell.prepare(params)
    xs = jax.tree.map(lambda x: x[steps], xs)
    u = cell.project(ready, xs)
    v = recurrent_products(cell, ready, carry, u)
    found = {}
    for name, values in gates_along(cell, ready, xs, (carry, u, v)).items():
        found[f"gate_{name}_mean"] = values.mean()
        found[f"gate_{name}_low"] = (values < LOW).mean()
        found[f"gate_{name}_high"] = (values > HIGH).mean()
    return found
