"""The recurrence linearised around a trajectory: what all diagnostics are made of."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.cells.kernels import product, product_back, transposed
from rnnjax.diagnostics.tracing import exact
from rnnjax.recurrence.carries import partition
from rnnjax.recurrence.in_chunks import scan_in_chunks
from rnnjax.recurrence.inputs import batch_shape, check_params
from rnnjax.recurrence.options import settle_dtypes, start_carry
from rnnjax.recurrence.sequential import unroll

PyTree = Any

precise = jax.default_matmul_precision("float32")
"""Decorator: matrix products in full precision, also where accelerators use less by default."""


CHUNK = 100  # steps whose slopes are in memory together


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
        ValueError, FloatingPointError: as for `follow`.
    """
    found = follow(cell, params, xs, initial_carry, seq_lengths)
    inputs = cell.project(found.ready, xs)
    products = recurrent_products(cell, found.ready, found.entering, inputs)
    return found._replace(inputs=inputs, products=products)


def follow(
    cell: Cell, params: PyTree, xs: PyTree, initial_carry: PyTree = None, seq_lengths: Any = None
) -> Trajectory:
    """Unroll the cell; inputs and products, which `scan_back` computes by itself, are left out.

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
    return Trajectory(entering, None, None, after, outputs, ready)


def scan_back(
    cell: Any, trajectory: Trajectory, xs: PyTree, step_back: Callable, last: PyTree, along: PyTree
) -> PyTree:
    """Scan from the last step to the first, and return what the steps return, leaves `[T, ...]`.

    The slopes of a gated cell do not depend on what is pulled back, so those of many steps are
    computed at once, chunk after chunk; each step multiplies by them and by U^T.

    Args:
        trajectory: as from `follow`.
        step_back: `step_back(state, pull, now)` returns the state before a step and what to keep;
            `pull` is that of `linearise`, and `now` the step's entry of `along`.
        last: the state after the last step.
        along: arrays `[T, ...]`.
    """
    ready, total = trajectory.ready, jax.tree.leaves(xs)[0].shape[0]
    gated = is_gated(cell)
    kernel: Any = transposed(cell.recurrent_kernel(ready)) if gated else None

    def slopes(step):
        carry, u, v = step
        floats, merge = partition(carry)
        around = jax.vjp(_gates(cell, ready, merge, u), floats, v)[1]
        return around, jax.vjp(_multiplied(cell, merge, u), floats)[1]

    def back(state, now):
        known, along = now
        if not gated:
            return step_back(state, linearise(cell, ready, known)[1], along)
        around, through = known

        def pull(later):
            direct, dv = around(later)
            (recurrent,) = through(product_back(dv, kernel, cell.dtype))
            return [a + b for a, b in zip(direct, recurrent, strict=True)]

        return step_back(state, pull, along)

    def chunk(state, given):
        entering, xs, along = given
        inputs = cell.project(ready, xs)
        steps = entering, inputs, recurrent_products(cell, ready, entering, inputs)
        known = jax.vmap(slopes)(steps) if gated else steps
        return lax.scan(back, state, (known, along), reverse=True)

    given = trajectory.entering, xs, along
    return scan_in_chunks(chunk, last, given, total, CHUNK, reverse=True)[1]


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


def _gates(cell, ready, merge, u):
    elementwise = cell.elementwise(ready)
    return exact(lambda floats, v: partition(cell.next_carry(elementwise, merge(floats), u, v))[0])


def linearise_elementwise(cell: GatedStep, ready: PyTree, step: Any) -> tuple[Callable, Callable]:
    """Return `push` and `pull` of `gates`, as a function of the carry and the recurrent product."""
    carry, u, v = step
    floats, merge = partition(carry)
    gates = _gates(cell, ready, merge, u)
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
