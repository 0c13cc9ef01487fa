"""The compiled program of `unroll` and its two siblings: a scan of steps, or all steps at once."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from rnnjax.cells.base import Cell, check_size
from rnnjax.cells.linear import Linear
from rnnjax.recurrence.fast import fast_scan, served
from rnnjax.recurrence.in_cache import plan_chunks, scan_in_cache
from rnnjax.recurrence.in_chunks import scan_in_chunks
from rnnjax.recurrence.inputs import batch_shape, check_params
from rnnjax.recurrence.linear_scan import BY_PLATFORM, STEP_BY_STEP, scan_linear
from rnnjax.recurrence.meshes import splits_batch, varying_alike, with_explicit_axes
from rnnjax.recurrence.newton_solve import Newton, NewtonReport, no_report, scan_newton
from rnnjax.recurrence.options import (
    check_masked_output,
    checked_clip,
    checked_flags,
    checked_lengths,
    checked_over_time,
    checked_probe,
    numbers,
    output_shape,
    settle_dtypes,
    start_carry,
)
from rnnjax.recurrence.steps import Now, enter, flags, leave, where

PyTree = Any


def checked_and_run(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree,
    *,
    parallel: bool,
    seq_lengths: Any,
    mask: Any,
    masked_output: Any,
    resets: Any,
    reset_carry: PyTree,
    reverse: bool,
    unroll: int,
    checkpoint_every: Any,
    truncate_every: int | None,
    clip_adjoints: Any,
    perturbations: PyTree,
    norm_probe: Any,
    return_carries: bool,
    newton: Newton | None = None,
    guess: PyTree = None,
) -> tuple[PyTree, ...]:
    """Check all arguments, and run the compiled program.

    Args:
        parallel: all steps at once, by an associative scan of a `Linear` cell.
        newton: all steps at once, by Newton's method; a report is returned as well.
        guess: of the carries after each step, leaves `[T, *batch, ...]`; for Newton's method.
        others: as in `unroll`.
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
    check_masked_output(masked_output, mask)
    hold, emitted = isinstance(masked_output, str), None
    if not (hold or masked_output is None):
        emitted = numbers(masked_output, output_shape(cell, (total, *batch)))
    return _unroll(
        cell.without_initialisers(),
        params,
        jax.tree.map(jnp.asarray, xs),
        start_carry(cell, initial_carry, batch, "initial_carry"),
        checked_lengths(seq_lengths, total, batch),
        checked_flags("mask", mask, (total, *batch)),
        emitted,
        checked_flags("resets", resets, (total, *batch)),
        None if resets is None else start_carry(cell, reset_carry, batch, "reset_carry"),
        checked_clip(clip_adjoints),
        checked_over_time("perturbations", cell, perturbations, total, batch),
        checked_probe(norm_probe, total, batch),
        checked_over_time("guess", cell, guess, total, batch),
        parallel=parallel,
        newton=newton,
        hold=hold,
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
        "parallel",
        "newton",
        "hold",
        "reverse",
        "unroll",
        "checkpoint_every",
        "truncate_every",
        "return_carries",
    ),
)
def _unroll(cell, params, xs, carry, *options, newton, return_carries, **static):
    run = functools.partial(_run, cell, newton=newton, return_carries=return_carries, **static)
    final = carry if newton is None else (carry, NewtonReport(0, 0, 0))
    ndim = len(batch_shape(cell, xs))
    run = with_explicit_axes(run, xs, final, carry if return_carries else None, ndim)
    return run(params, xs, carry, *options)


def _run(
    cell,
    params,
    xs,
    carry,
    lengths,
    mask,
    emitted,
    resets,
    reset_carry,
    clip_adjoints,
    perturbations,
    norm_probe,
    guess,
    *,
    parallel,
    newton,
    hold,
    reverse,
    unroll,
    checkpoint_every,
    truncate_every,
    return_carries,
):
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    given = params, xs, carry, lengths, mask, emitted, resets, reset_carry, clip_adjoints
    others = perturbations, norm_probe, guess
    alike, varying = varying_alike((*given, *others))
    params, xs, carry, lengths, mask, emitted, resets, *alike = alike
    reset_carry, clip_adjoints, perturbations, norm_probe, guess = alike
    ready = cell.prepare(params)
    carry = settle_dtypes(cell, ready, xs, carry)
    if resets is not None:
        reset_carry = jax.tree.map(lambda r, c: r.astype(c.dtype), reset_carry, carry)
    within, valid, resets, cut = flags(
        total, len(batch), lengths, mask, resets, truncate_every=truncate_every, reverse=reverse
    )
    if valid is not None:  # what is left out, NaN included, must not reach a gradient as 0 * NaN
        xs = jax.tree.map(lambda x: where(valid, x, jnp.zeros_like(x)), xs)
    own = within if hold else valid  # where the outputs are the cell's own
    if emitted is not None and within is not None:
        emitted = where(within, emitted, jnp.zeros_like(emitted))
    now = Now(valid, resets, cut, perturbations, norm_probe)
    shared = reset_carry, clip_adjoints
    enter_step = functools.partial(enter, len(batch))

    def scan(read, ready, carry, xs, now, shared, *, at_once=True):
        def step(carry, inputs):
            u, now = inputs
            u = u if at_once else cell.project(ready, u)
            carry = enter_step(shared, carry, now)
            carry = leave(carry, cell.step(ready, carry, u), now)
            return carry, read(carry)

        us = cell.project(ready, xs) if at_once else xs
        return lax.scan(step, carry, (us, now), reverse=reverse, unroll=unroll)

    def read(carry):
        return cell.output(carry), carry if return_carries else None

    if newton is not None:
        carry = carry, no_report(batch, carry)
    fast = not parallel and newton is None and served(cell, ready, carry, xs) and not varying
    # A cut or a clipped gradient is one operation more in each step of a loop.
    marked = parallel or newton is not None or cut is not None or clip_adjoints is not None
    linear = parallel or (issubclass(type(cell), Linear) and not marked)
    step_by_step = not (fast or parallel or varying or newton)

    def run(ready, shared, carry, inputs, *, project_in_loop=False):
        xs, now, own, emitted, guess = inputs
        arguments: Any = (ready, carry, xs, now, shared)
        if fast:
            plain = functools.partial(scan, lambda carry: carry)

            def values(ready, carry, xs, now, shared):
                return plain(ready, carry, xs, now._replace(probe=None), (shared[0], None))

            walk = functools.partial(fast_scan, cell, plain, values, enter_step, leave)
            final, carries = walk(arguments, reverse=reverse, lean=checkpoint_every == 1)
            outputs, carries = read(carries)
        elif project_in_loop:
            final, (outputs, carries) = scan(read, *arguments, at_once=False)
        elif linear:
            how: Any = {"batch_ndim": len(batch), "reverse": reverse, "own_backward": not varying}
            way = BY_PLATFORM if parallel else STEP_BY_STEP
            final, carries = scan_linear(cell, *arguments, way=way, **how)
            outputs, carries = read(carries)
        elif newton is not None:
            options: Any = {"options": newton, "guess": guess, "reverse": reverse}
            final, carries = scan_newton(cell, *arguments, batch_ndim=len(batch), **options)
            outputs, carries = read(carries)
        else:
            final, (outputs, carries) = scan(read, *arguments)
        if own is not None:
            others = jnp.zeros_like(outputs) if emitted is None else emitted.astype(outputs.dtype)
            outputs = where(own, outputs, others)
        return final, (outputs, carries)

    def run_all(ready, shared, carry, inputs):
        one, plan = functools.partial(run, ready, shared), None
        if checkpoint_every is None and step_by_step:
            plan = plan_chunks(cell, ready, carry, inputs[0])
        if plan is not None:
            loop = functools.partial(run, project_in_loop=True)
            return scan_in_cache(run, loop, (ready, shared, carry, inputs), total, plan, reverse)
        if checkpoint_every is None or (fast and checkpoint_every == 1):
            return one(carry, inputs)
        return scan_in_chunks(one, carry, inputs, total, checkpoint_every, reverse)

    if splits_batch(batch):
        over, over_time = P("batch"), P(None, "batch")
        run_all = jax.shard_map(
            run_all,
            in_specs=(P(), (over, P()), over, over_time),
            out_specs=(over, over_time),
            axis_names={"batch"},
            check_vma=False,
        )
    final, (outputs, carries) = run_all(ready, shared, carry, (xs, now, own, emitted, guess))
    return (final, outputs, carries) if return_carries else (final, outputs)
