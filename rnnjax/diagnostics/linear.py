"""The recurrence linearised around a trajectory: what all diagnostics are made of."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnnjax.cells.base import Cell, Gated, is_gated, matmul
from rnnjax.diagnostics.tracing import exact
from rnnjax.recurrence.carries import partition
from rnnjax.recurrence.options import batch_shape, settle_dtypes, start_carry
from rnnjax.recurrence.sequential import unroll

PyTree = Any

precise = jax.default_matmul_precision("float32")
"""Decorator: matrix products in full precision, where an accelerator would take less by default."""


class Trajectory(NamedTuple):
    """A run of a cell. The first three are what `linearise` needs, a step at a time."""

    entering: Any  # s_0 .. s_{T-1}, leaves [T, *batch, ...]
    inputs: Any  # the cell's projected inputs u
    products: Any  # of a gated cell h U, split by gate; else None
    after: Any  # s_1 .. s_T
    outputs: Any  # [T, *batch, H]

    @property
    def steps(self):
        """What a scan over the steps takes."""
        return self[:3]


def run(
    cell: Cell, params: PyTree, xs: PyTree, initial_carry: PyTree = None, seq_lengths: Any = None
) -> Trajectory:
    """Unroll the cell and keep all that a linearisation needs.

    The recurrent products depend on carries that are known by now, so they are one large matmul.

    Raises:
        ValueError: a shape does not fit, as for `unroll`.
        FloatingPointError: a carry is not finite (not checked under a transformation).
    """
    batch = batch_shape(cell, xs)
    first = settle_dtypes(
        cell, params, xs, start_carry(cell, initial_carry, batch, "initial_carry")
    )
    _, outputs, after = unroll(
        cell, params, xs, first, seq_lengths=seq_lengths, return_carries=True
    )
    check_finite(after, len(batch))
    entering = jax.tree.map(lambda s, ss: jnp.concatenate([s[None], ss[:-1]]), first, after)
    products = recurrent_products(cell, params, entering)
    return Trajectory(entering, cell.project(params, xs), products, after, outputs)


def recurrent_products(cell: Any, params: PyTree, carries: PyTree) -> tuple | None:
    """Return h U of known carries, split by gate; None for a cell that is not gated."""
    if not is_gated(cell):
        return None
    return cell.recur(params, carries)


def linearise(cell: Any, params: PyTree, step: Any) -> tuple[Callable, Callable]:
    """Return `push` (J times a tangent) and `pull` (J^T times a cotangent) of one step.

    J = d s_{t+1} / d s_t at the carry, input and product of `step`, an entry of
    `Trajectory.steps`. For many vectors at once, `jax.vmap` either over their leading axis.
    """
    carry, u, v = step
    floats, merge = partition(carry)

    def floating(carry):
        return partition(carry)[0]

    if v is None:
        advance = exact(lambda floats: floating(cell.step(params, merge(floats), u)))
        _, push = jax.linearize(advance, floats)
        transpose = jax.linear_transpose(push, floats)
        return push, lambda later: transpose(later)[0]

    kernel, at_h = params.recurrent_kernel, merge(list(range(len(floats)))).h
    push_elementwise, _ = linearise_elementwise(cell, params, step)

    def push(tangent):
        return push_elementwise(tangent, cell.split(matmul(tangent[at_h], kernel, cell.dtype)))

    def pull(later):
        direct, recurrent = pull_apart(cell, params, step, later)
        return [*direct[:at_h], direct[at_h] + recurrent, *direct[at_h + 1 :]]

    return push, pull


def linearise_elementwise(cell: Gated, params: PyTree, step: Any) -> tuple[Callable, Callable]:
    """Return `push` and `pull` of a gated cell's elementwise half, about its carry and product."""
    carry, u, v = step
    floats, merge = partition(carry)
    elementwise = cell.elementwise(params)
    gates = exact(lambda floats, v: partition(cell.gates(elementwise, merge(floats), u, v))[0])
    _, push = jax.linearize(gates, floats, v)
    return push, jax.linear_transpose(push, floats, v)


def pull_apart(cell: Gated, params: PyTree, step: Any, later: list) -> tuple[list, Any]:
    """Return J^T times a cotangent as its two parts: elementwise, and into h through the kernel."""
    direct, dv = linearise_elementwise(cell, params, step)[1](later)
    kernel = params.recurrent_kernel.T
    return direct, matmul(jnp.concatenate(dv, axis=-1), kernel, cell.dtype)


def need_gated(cell: Cell, what: str) -> None:
    """Raise a TypeError that says why `what` needs a cell of the gated form."""
    if not is_gated(cell):
        raise TypeError(
            f"{what} needs a gated cell (one recurrent matmul, then elementwise: a subclass of "
            f"rnnjax.Gated), got {type(cell).__name__}"
        )


def check_finite(carries: PyTree, batch_ndim: int) -> None:
    """Raise a FloatingPointError that names the first step whose carry is not finite."""
    leaves = partition(carries)[0]
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return
    bad = [~jnp.isfinite(leaf).all(range(1 + batch_ndim, leaf.ndim)) for leaf in leaves]
    bad = np.asarray(functools.reduce(jnp.logical_or, bad))
    if bad.any():
        step, *example = (int(i) for i in np.argwhere(bad)[0])
        of = f" of example {', '.join(map(str, example))}" if example else ""
        raise FloatingPointError(f"the carry{of} is not finite after step {step}")
