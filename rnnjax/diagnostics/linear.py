"""The recurrence linearised around a trajectory: what all diagnostics are made of."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.cells.kernels import product, product_back, transposed
from rnnjax.diagnostics.tracing import exact
from rnnjax.recurrence.carries import partition
from rnnjax.recurrence.inputs import batch_shape, check_params
from rnnjax.recurrence.options import settle_dtypes, start_carry
from rnnjax.recurrence.sequential import unroll

PyTree = Any

precise = jax.default_matmul_precision("float32")
"""Decorator: matrix products in full precision, also where accelerators use less by default."""


class Trajectory(NamedTuple):
    """A run of a cell. `linearise` needs the first three, one step at a time."""

    entering: Any  # s_0 .. s_{T-1}, leaves [T, *batch, ...]
    inputs: Any  # the cell's projected inputs u
    products: Any  # of a gated cell the recurrent product v, split by gate; else None
    after: Any  # s_1 .. s_T
    outputs: Any  # [T, *batch, H]
    ready: Any  # the effective parameters, `cell.prepare(params)`

    @property
    def steps(self):
        """The inputs of a scan over the steps."""
        return self[:3]


def run(
    cell: Cell, params: PyTree, xs: PyTree, initial_carry: PyTree = None, seq_lengths: Any = None
) -> Trajectory:
    """Unroll the cell and keep everything that a linearisation needs.

    The recurrent products are one large matmul, since all carries are known by then.

    Raises:
        ValueError: a shape does not fit, as for `unroll`.
        FloatingPointError: a carry is not finite (not checked under a transformation).
    """
    batch = batch_shape(cell, xs)
    check_params(cell, params, xs)
    ready = cell.prepare(params)
    first = settle_dtypes(cell, ready, xs, start_carry(cell, initial_carry, batch, "initial_carry"))
    _, outputs, after = unroll(
        cell, params, xs, first, seq_lengths=seq_lengths, return_carries=True
    )
    check_finite(after, len(batch))
    total = outputs.shape[0]
    entering = jax.tree.map(lambda s, ss: jnp.concatenate([s[None], ss[:-1]])[:total], first, after)
    inputs = cell.project(ready, xs)
    products = recurrent_products(cell, ready, entering, inputs)
    return Trajectory(entering, inputs, products, after, outputs, ready)


def one_step(tree: PyTree) -> PyTree:
    """Return the shapes of one step of arrays `[T, ...]`; there need not be one."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), tree)


def recurrent_products(
    cell: Any, ready: PyTree, carries: PyTree, inputs: PyTree
) -> tuple[Array, ...] | None:
    """Return the recurrent products of known carries; None for a cell that is not gated."""
    if not is_gated(cell):
        return None
    return cell.recur(ready, carries, inputs)


def linearise(cell: Any, ready: PyTree, step: Any) -> tuple[Callable, Callable]:
    """Return `push` (J times a tangent) and `pull` (J^T times a cotangent) of one step.

    J = d s_{t+1} / d s_t at the carry, input and product of `step`, an entry of
    `Trajectory.steps`. For many vectors at once, `jax.vmap` either over their leading axis.
    Complex cotangents follow JAX's convention, dL/dx - i dL/dy; see `in_real_coordinates`. Only
    `push` needs forward mode.

    Raises:
        TypeError: (from `push`) a derivative of the step has no forward mode.
    """
    carry, u, v = step
    floats, merge = partition(carry)

    def floating(carry):
        return partition(carry)[0]

    if v is None:
        advance = exact(lambda floats: floating(cell.step(ready, merge(floats), u)))
        return (
            lambda tangent: _pushed(cell, advance, (floats,), (tangent,)),
            lambda later: jax.vjp(advance, floats)[1](later)[0],
        )

    def push(tangent):
        a = _pushed(cell, _multiplied(cell, merge, u), (floats,), (tangent,))
        v = product(a, cell.recurrent_kernel(ready), len(cell.gate_names), cell.dtype)
        return linearise_elementwise(cell, ready, step)[0](tangent, v)

    def pull(later):
        return [a + b for a, b in zip(*pull_apart(cell, ready, step, later), strict=True)]

    return push, pull


def _pushed(cell, function, primals, tangents):
    with forward_mode(cell):
        return jax.linearize(function, *primals)[1](*tangents)


@contextlib.contextmanager
def forward_mode(cell: Cell):
    """Raise a TypeError that says what to do where a step has reverse mode alone."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            f"{type(cell).__name__} has a jax.custom_vjp in its step, which has no forward mode; "
            "write it with jax.custom_jvp, whose transposed rule gives the same backward pass"
        ) from None


def in_real_coordinates(pull: Callable) -> Callable:
    """Return `pull` for cotangents dL/dx + i dL/dy: J^T in the coordinates of `carries.flatten`."""
    return lambda later: [v.conj() for v in pull([v.conj() for v in later])]


def _multiplied(cell, merge, u):
    return exact(lambda floats: cell.recurrent_input(merge(floats), u))


def linearise_elementwise(cell: GatedStep, ready: PyTree, step: Any) -> tuple[Callable, Callable]:
    """Return `push` and `pull` of `gates`, as a function of the carry and the recurrent product."""
    carry, u, v = step
    floats, merge = partition(carry)
    elementwise = cell.elementwise(ready)
    gates = exact(lambda floats, v: partition(cell.next_carry(elementwise, merge(floats), u, v))[0])
    return (
        lambda *tangents: _pushed(cell, gates, (floats, v), tangents),
        lambda later: jax.vjp(gates, floats, v)[1](later),
    )


def pull_apart(
    cell: GatedStep, ready: PyTree, step: Any, later: list, kernel: Any = None
) -> tuple[list, list]:
    """Return J^T times a cotangent in two parts: around the recurrent product, and through it.

    `kernel` is the recurrent kernel; None means that of `ready`.
    """
    carry, u, _ = step
    floats, merge = partition(carry)
    direct, dv = linearise_elementwise(cell, ready, step)[1](later)
    kernel = cell.recurrent_kernel(ready) if kernel is None else kernel
    da = product_back(dv, transposed(kernel), cell.dtype)
    (recurrent,) = jax.vjp(_multiplied(cell, merge, u), floats)[1](da)
    return direct, recurrent


def need_gated(cell: Cell, what: str) -> None:
    """Raise a TypeError that says that `what` needs a gated cell, unless the cell is one."""
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
