"""Run a cell over time, step by step: `unroll`, a `lax.scan` of `cell.step`, or the fast path."""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from rnnjax.cells.base import Cell, check_size
from rnnjax.recurrence.fast import fast_scan, served
from rnnjax.recurrence.meshes import varying_alike, with_explicit_axes
from rnnjax.recurrence.options import (
    batch_shape,
    check_params,
    checked_clip,
    checked_lengths,
    checked_perturbations,
    checked_probe,
    checked_resets,
    settle_dtypes,
    start_carry,
)
from rnnjax.recurrence.steps import Now, enter, leave, where

PyTree = Any
LEAST_BATCH = 8  # examples on each device: with 8, two devices are a tenth faster than one


def unroll(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree = None,
    *,
    seq_lengths: Any = None,
    resets: Any = None,
    reset_carry: PyTree = None,
    reverse: bool = False,
    unroll: int = 1,
    checkpoint_every: int | Literal["sqrt"] | None = None,
    truncate_every: int | None = None,
    clip_adjoints: Any = None,
    perturbations: PyTree = None,
    norm_probe: Any = None,
    return_carries: bool = False,
) -> tuple[PyTree, ...]:
    """Run `cell` over the leading axis of `xs`:

        ready = prepare(params),  s_0 = initial_carry
        s_{t+1} = step(ready, s_t, project(ready, x_t)),  y_t = output(s_{t+1})

    Every option agrees in values and gradients with a Python loop over `cell.step`.

    Args:
        cell: any `Cell`; a static argument, so equal cells share one compiled program.
        params: the cell's raw parameters; gradients are with respect to these.
        xs: inputs `[T, *batch, D]`, time first, with any number of batch dimensions, none
            included (or a pytree of such arrays, if the cell's `project` takes one). A cell whose
            `input_shape` has more axes takes `[T, *batch, height, width, D]`, for example.
        initial_carry: s_0, leaves `[*batch, ...]`; None means `cell.initial_carry(batch)`.
        seq_lengths: the number of valid steps of each sequence, integers in 0..T, `[*batch]`. Steps
            past the end leave the carry unchanged and emit zeros.
        resets: booleans `[T, *batch]`; where true, the carry is set to `reset_carry` before that
            step. Mark the first step of each of several sequences packed into one; with `reverse`,
            its last step, which is processed first.
        reset_carry: the carry after a reset; None means `cell.initial_carry(batch)`. A stream that
            is cut into several calls then gives the same results as one call.
        reverse: start at each sequence's last valid step and go to its first; outputs are in
            input order.
        unroll: steps per iteration of the compiled loop, as in `lax.scan`.
        checkpoint_every: keep only every k-th carry for the backward pass and recompute the rest,
            chunk by chunk. This takes the memory of T/k + k steps instead of T; "sqrt" means
            k = sqrt(T), the minimum. With 1 a gated cell keeps its carries and no gates, which is
            a third of the memory or less, and computes the gates of many steps again at once.
        truncate_every: truncated back-propagation: no gradient passes from step n k (counted in
            processing order from the sequence's first step) to the one before it.
        clip_adjoints: the largest norm of the gradient dL/ds_t that passes back through a step's
            carry, for each step and example; a larger gradient is scaled down to it.
        perturbations: added to the carry that enters each step, leaves `[T, *batch, ...]`; make
            them with `rnnjax.diagnostics.zero_perturbations`. The gradient with respect to them is
            the adjoints dL/ds_t, for any loss. Leaves that correspond to integers are ignored.
        norm_probe: zeros `[T, *batch]`, which change no value. The gradient with respect to them
            is the *norm* of each adjoint, before it is clipped; this costs next to nothing.
        return_carries: also return all carries.

    Gated cells (`rnnjax.Gated`), and `LayerNorm`, `Zoneout` and `VariationalDropout` around them,
    have a backward pass of their own, several times faster than the one JAX derives
    (docs/internals/fast_backward.md); `unroll` does not apply to it. Within a mesh that has an
    axis named "batch" (`jax.set_mesh(rnnjax.training.batch_mesh())`), the leading batch dimension
    is split over that axis, if it can be split evenly. Inputs that are sharded along explicit axes
    (`jax.make_mesh`) give results that are sharded like them. Within `jax.shard_map` the backward
    pass is the one JAX derives, unless it is called with `check_vma=False`.

    A carry may have complex and integer leaves; no gradient flows through integers. For a complex
    z, gradients follow JAX's convention: g = dL/d(Re z) - i dL/d(Im z), so dL = Re(sum(g * dz)).

    `clip_adjoints` and `norm_probe` act on gradients alone: reverse mode works (and forward over
    reverse, `jax.hessian`), while `jax.jvp` refuses them.

    Returns:
        `(final_carry, outputs)`, outputs `[T, *batch, output_size]`; with `return_carries` also
        `carries`, leaves `[T, *batch, ...]`, where `carries[t]` is s_{t+1}, the carry after step t.

    Raises:
        ValueError: an array's shape does not fit `xs`, `params` are not those of such a cell, a
            length is negative or beyond T, or an option is not a positive integer.
        TypeError: the cell is not hashable, or `seq_lengths` or `resets` have the wrong type.
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    check_params(cell, params, xs)
    if checkpoint_every == "sqrt":
        checkpoint_every = max(1, math.isqrt(total)) if isinstance(total, int) else None
    check_size("unroll", unroll)
    for name, every in (("checkpoint_every", checkpoint_every), ("truncate_every", truncate_every)):
        if every is not None:
            check_size(name, every)
    if reset_carry is not None and resets is None:
        raise ValueError("reset_carry was given without resets; give both or neither")
    return _unroll(
        cell.without_initialisers(),
        params,
        jax.tree.map(jnp.asarray, xs),
        start_carry(cell, initial_carry, batch, "initial_carry"),
        checked_lengths(seq_lengths, total, batch),
        checked_resets(resets, total, batch),
        None if resets is None else start_carry(cell, reset_carry, batch, "reset_carry"),
        checked_clip(clip_adjoints),
        checked_perturbations(cell, perturbations, total, batch),
        checked_probe(norm_probe, total, batch),
        reverse=bool(reverse),
        unroll=int(unroll),
        checkpoint_every=checkpoint_every,
        truncate_every=truncate_every,
        return_carries=bool(return_carries),
    )


@functools.partial(
    jax.jit,
    static_argnames=(
        "cell",
        "reverse",
        "unroll",
        "checkpoint_every",
        "truncate_every",
        "return_carries",
    ),
)
def _unroll(cell, params, xs, carry, *options, return_carries, **static):
    run = functools.partial(_run, cell, return_carries=return_carries, **static)
    ndim = len(batch_shape(cell, xs))
    run = with_explicit_axes(run, xs, carry, ndim, return_carries=return_carries)
    return run(params, xs, carry, *options)


def _run(
    cell,
    params,
    xs,
    carry,
    lengths,
    resets,
    reset_carry,
    clip_adjoints,
    perturbations,
    norm_probe,
    *,
    reverse,
    unroll,
    checkpoint_every,
    truncate_every,
    return_carries,
):
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    times = jnp.arange(total).reshape(total, *(1 for _ in batch))
    given = params, xs, carry, lengths, resets, reset_carry, clip_adjoints
    alike, varying = varying_alike((*given, perturbations, norm_probe))
    params, xs, carry, lengths, resets, reset_carry, clip_adjoints, perturbations, norm_probe = (
        alike
    )
    ready = cell.prepare(params)
    carry = settle_dtypes(cell, ready, xs, carry)
    if resets is not None:
        reset_carry = jax.tree.map(lambda r, c: r.astype(c.dtype), reset_carry, carry)
    valid = cut = None
    if lengths is not None:
        valid = times < lengths
        # Padding values, NaN included, must not reach a gradient as 0 * NaN.
        xs = jax.tree.map(lambda x: where(valid, x, jnp.zeros_like(x)), xs)
    if truncate_every is not None:
        last = (total if lengths is None else lengths) - 1
        age = last - times if reverse else times  # steps already processed
        cut = (age > 0) & (age % truncate_every == 0)
    if valid is not None:  # no step, nothing to cut or to reset
        cut, resets = (flag if flag is None else flag & valid for flag in (cut, resets))

    now = Now(valid, resets, cut, perturbations, norm_probe)
    shared = reset_carry, clip_adjoints
    enter_step = functools.partial(enter, len(batch))

    def scan(read, ready, carry, xs, now, shared):
        def step(carry, inputs):
            u, now = inputs
            carry = enter_step(shared, carry, now)
            carry = leave(carry, cell.step(ready, carry, u), now)
            return carry, read(carry)

        us = cell.project(ready, xs)
        return lax.scan(step, carry, (us, now), reverse=reverse, unroll=unroll)

    def read(carry):
        return cell.output(carry), carry if return_carries else None

    fast = served(cell, ready, carry, xs) and not varying

    def run(ready, shared, carry, inputs):
        arguments: Any = (ready, carry, *inputs, shared)
        if fast:
            plain = functools.partial(scan, lambda carry: carry)

            def values(ready, carry, xs, now, shared):
                return plain(ready, carry, xs, now._replace(probe=None), (shared[0], None))

            walk = functools.partial(fast_scan, cell, plain, values, enter_step, leave)
            final, carries = walk(arguments, reverse=reverse, lean=checkpoint_every == 1)
            outputs, carries = read(carries)
        else:
            final, (outputs, carries) = scan(read, *arguments)
        if (valid := inputs[1].valid) is not None:
            outputs = where(valid, outputs, jnp.zeros_like(outputs))
        return final, (outputs, carries)

    def run_all(ready, shared, carry, inputs):
        one = functools.partial(run, ready, shared)
        if checkpoint_every is None or (fast and checkpoint_every == 1):
            return one(carry, inputs)
        return _scan_chunks(one, carry, inputs, total, checkpoint_every, reverse)

    if _splits(batch):
        over, over_time = P("batch"), P(None, "batch")
        run_all = jax.shard_map(
            run_all,
            in_specs=(P(), (over, P()), over, over_time),
            out_specs=(over, over_time),
            axis_names={"batch"},
            check_vma=False,
        )
    final, (outputs, carries) = run_all(ready, shared, carry, (xs, now))
    return (final, outputs, carries) if return_carries else (final, outputs)


def _splits(batch):
    """Return whether the current mesh has a batch axis over which splitting pays."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if not batch or types.get("batch") is not AxisType.Auto:
        return False
    devices = mesh.shape["batch"]
    even = devices > 1 and isinstance(batch[0], int) and batch[0] % devices == 0
    return even and batch[0] >= LEAST_BATCH * devices


def _scan_chunks(scan, carry, inputs, total, size, reverse):
    """Run `scan(carry, inputs)` on chunks of `size` steps, each recomputed when differentiated.

    The steps left over, less than a chunk, are not recomputed.
    """
    whole = total - total % size
    chunks = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), inputs)
    rest = jax.tree.map(lambda a: a[whole:], inputs)
    chunk = jax.checkpoint(scan, prevent_cse=False)  # inside a scan there is no CSE to prevent

    def scan_whole(carry):
        carry, ys = lax.scan(chunk, carry, chunks, reverse=reverse)
        return carry, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    if whole == total:
        return scan_whole(carry)
    if reverse:
        carry, late = scan(carry, rest)
        carry, early = scan_whole(carry)
    else:
        carry, early = scan_whole(carry)
        carry, late = scan(carry, rest)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
