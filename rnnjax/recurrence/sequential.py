"""Run a cell over time: `lax.scan` of `cell.step` over `cell.project(ready, xs)`.

Everything else here says from which carry a step starts, and where the tape is cut or dropped.
"""

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from rnnjax.cells.base import Cell, check_size
from rnnjax.recurrence.carries import clip_gradient, partition, probe_norm
from rnnjax.recurrence.fast import fast_scan, served
from rnnjax.recurrence.options import (
    batch_shape,
    checked_clip,
    checked_lengths,
    checked_perturbations,
    checked_probe,
    checked_resets,
    settle_dtypes,
    start_carry,
)

PyTree = Any
LEAST_BATCH = 8  # examples on a device: with so few, two devices were a tenth faster than one


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

        s_0 = initial_carry
        s_{t+1} = step(params, s_t, project(params, x_t)),  y_t = output(s_{t+1})

    All options agree in values and gradients with a Python loop over `cell.step`.

    Args:
        cell: any `Cell`; a static argument, so equal cells share one compiled program.
        params: the cell's parameters.
        xs: inputs `[T, *batch, D]`, time first, with any number of batch dimensions, none
            included (or a pytree of such arrays, if the cell's `project` takes one).
        initial_carry: s_0, leaves `[*batch, ...]`; None means `cell.initial_carry(batch)`.
        seq_lengths: valid steps of each sequence, integers in 0..T, `[*batch]`. Steps past the end
            leave the carry unchanged and emit zeros.
        resets: `[T, *batch]`; where true, the carry returns to `reset_carry` before that step, as
            at the start of each of several sequences packed into one. With `reverse` that is the
            step processed first, a packed sequence's last.
        reset_carry: what `resets` return to; None means `cell.initial_carry(batch)`, so that a
            stream cut into several calls gives what one call would.
        reverse: start at each sequence's last valid step and go to its first; outputs stand in
            input order.
        unroll: steps per iteration of the compiled loop, as in `lax.scan`.
        checkpoint_every: keep only every k-th carry for the backward pass and recompute the rest,
            chunk by chunk. The tape then takes T/k + k steps of memory instead of T;
            "sqrt" is k = sqrt(T), the least. With 1 a gated cell keeps its carries and no gates,
            a third of the memory or less, and computes the gates of many steps again at once.
        truncate_every: truncated back-propagation: no gradient passes from step n k (counted in
            processing order from the sequence's first step) to the one before it.
        clip_adjoints: largest norm of the gradient dL/ds_t that passes back through a step's
            carry, for each step and example; a longer one is scaled down to it on its way.
        perturbations: added to the carry that enters each step, leaves `[T, *batch, ...]`; make
            them with `rnnjax.diagnostics.zero_perturbations`. The gradient with respect to them is
            that with respect to the carries: the adjoints dL/ds_t, in a loss of your own. (Leaves
            that stand for integers are ignored.)
        norm_probe: zeros `[T, *batch]`, added to nothing. The gradient with respect to them is
            the *norm* of each adjoint, before it is clipped; it costs next to nothing.
        return_carries: also return all carries.

    Gated cells (`rnnjax.Gated`) have a backward pass of their own, several times faster than what
    JAX derives, see `rnnjax/recurrence/fast.py`; `unroll` does not apply to it. Within a mesh that
    has an axis named "batch" (`jax.set_mesh(rnnjax.training.batch_mesh())`), the leading batch
    dimension is split over it, if it can be split evenly.

    `clip_adjoints` and `norm_probe` act on gradients alone, so they allow reverse-mode (and forward
    over reverse, `jax.hessian`), while `jax.jvp` refuses them.

    Returns:
        `(final_carry, outputs)`, outputs `[T, *batch, H]`; with `return_carries` also
        `carries`, leaves `[T, *batch, ...]`, where `carries[t]` is the carry after step t.

    Raises:
        ValueError: an array's shape does not fit `xs`, a length is negative or beyond T, or an
            option is not a positive integer.
        TypeError: the cell is not hashable, or `seq_lengths` or `resets` have the wrong type.
    """
    batch, total = batch_shape(cell, xs), jax.tree.leaves(xs)[0].shape[0]
    if checkpoint_every == "sqrt":
        checkpoint_every = max(1, math.isqrt(total))
    check_size("unroll", unroll)
    for name, every in (("checkpoint_every", checkpoint_every), ("truncate_every", truncate_every)):
        if every is not None:
            check_size(name, every)
    if reset_carry is not None and resets is None:
        raise ValueError("reset_carry was given without resets; give both or neither")
    return _unroll(
        cell,
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
def _unroll(
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
    ready = cell.prepare(params)
    carry = settle_dtypes(cell, ready, xs, carry)
    if resets is not None:
        reset_carry = jax.tree.map(lambda r, c: r.astype(c.dtype), reset_carry, carry)
    valid = cut = None
    if lengths is not None:
        valid = times < lengths
        # Whatever stands in the padding, NaN included, must not reach a gradient as 0 * NaN.
        xs = jax.tree.map(lambda x: _where(valid, x, jnp.zeros_like(x)), xs)
    if truncate_every is not None:
        last = (total if lengths is None else lengths) - 1
        age = last - times if reverse else times  # steps already processed
        cut = (age > 0) & (age % truncate_every == 0)
    if valid is not None:  # no step, nothing to cut or to reset
        cut, resets = (flag if flag is None else flag & valid for flag in (cut, resets))

    now = _Now(valid, resets, cut, perturbations, norm_probe)
    shared = reset_carry, clip_adjoints
    enter = functools.partial(_enter, len(batch))

    def scan(read, ready, carry, xs, now, shared):
        def step(carry, inputs):
            u, now = inputs
            carry = enter(shared, carry, now)
            carry = _leave(carry, cell.step(ready, carry, u), now)
            return carry, read(carry)

        us = cell.project(ready, xs)
        return lax.scan(step, carry, (us, now), reverse=reverse, unroll=unroll)

    def read(carry):
        return cell.output(carry), carry if return_carries else None

    fast = served(cell, ready, carry, xs)

    def run(ready, shared, carry, inputs):
        arguments: Any = (ready, carry, *inputs, shared)
        if fast:
            plain = functools.partial(scan, lambda carry: carry)

            def values(ready, carry, xs, now, shared):
                return plain(ready, carry, xs, now._replace(probe=None), (shared[0], None))

            walk = functools.partial(fast_scan, cell, plain, values, enter, _leave)
            final, carries = walk(arguments, reverse=reverse, lean=checkpoint_every == 1)
            outputs, carries = read(carries)
        else:
            final, (outputs, carries) = scan(read, *arguments)
        if (valid := inputs[1].valid) is not None:
            outputs = _where(valid, outputs, jnp.zeros_like(outputs))
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
    """Return whether the context's mesh has an axis for the batch that is worth its splitting."""
    mesh = jax.sharding.get_abstract_mesh()
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if not batch or types.get("batch") is not AxisType.Auto:
        return False
    devices = mesh.shape["batch"]
    return devices > 1 and batch[0] % devices == 0 and batch[0] >= LEAST_BATCH * devices


class _Now(NamedTuple):
    """What is particular to a step, beside its input; leaves `[T, *batch, ...]`, or None."""

    valid: Any
    reset: Any
    cut: Any
    perturbation: Any
    probe: Any


def _enter(batch_ndim, shared, carry, now):
    """Return the carry as it enters a step."""
    reset_carry, clip = shared
    carry = _marked(carry, now.perturbation, now.probe, clip, batch_ndim)
    if now.cut is not None:
        carry = _where(now.cut, lax.stop_gradient(carry), carry)
    return carry if now.reset is None else _where(now.reset, reset_carry, carry)


def _leave(carry, new, now):
    """Return the carry after a step, which is as before where there was none."""
    return new if now.valid is None else _where(now.valid, new, carry)


def _marked(carry, perturbation, probe, clip, batch_ndim):
    """Return the carry, with what is asked for done to the gradient on its way back."""
    floats, merge = partition(carry)
    if clip is not None:
        floats = clip_gradient(floats, clip, batch_ndim)
    if probe is not None:
        floats = probe_norm(floats, probe, batch_ndim)
    if perturbation is not None:
        added = partition(perturbation, like=carry)[0]
        floats = [s + a.astype(s.dtype) for s, a in zip(floats, added, strict=True)]
    return merge(floats)


def _scan_chunks(scan, carry, inputs, total, size, reverse):
    """Run `scan(carry, inputs)` on chunks of `size` steps, each recomputed when differentiated.

    What is left over, less than a chunk, keeps its tape.
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


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """Select between pytrees by a condition on their leading axes."""

    def select(a, b):
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (b.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(select, new, old)
