"""Run a cell over time, step by step: `unroll`."""

from typing import Any, Literal

from rnnjax.cells.base import Cell
from rnnjax.recurrence.running import checked_and_run

PyTree = Any


def unroll(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    initial_carry: PyTree = None,
    *,
    seq_lengths: Any = None,
    mask: Any = None,
    masked_output: Any = None,
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
            included (or a pytree of such arrays, if the cell's `project` takes one; its `init`
            then takes the pytree of their sizes). A cell whose `input_shape` has more axes takes
            `[T, *batch, height, width, D]`, for example.
        initial_carry: s_0, leaves `[*batch, ...]`; None means `cell.initial_carry(batch)`.
        seq_lengths: the number of valid steps of each sequence, integers in 0..T, `[*batch]`. Steps
            past the end leave the carry unchanged and emit zeros.
        mask: booleans `[T, *batch]`; where false, the step is left out: it leaves the carry
            unchanged and emits `masked_output`. Masks serve for padding on the left and for gaps.
        masked_output: what masked steps emit: numbers that broadcast to `[T, *batch, output_size]`,
            or "last", the output of the carry that they leave unchanged; None means zeros.
        resets: booleans `[T, *batch]`; where true, the carry is set to `reset_carry` before that
            step, even if the step is masked. Mark the first step of each of several sequences
            packed into one; with `reverse`, its last step, which is processed first.
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
            processing order from the sequence's first step, without masked ones) to the one before
            it.
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
    (docs/internals/fast_backward.md). So do `rnnjax.Linear` cells, a loop of one multiply-add a
    step, unless gradients are clipped or truncated. `unroll` applies to neither. Within a mesh that
    has an axis named "batch" (`jax.set_mesh(rnnjax.training.batch_mesh())`), the leading batch
    dimension is split over that axis, if it can be split evenly. Inputs that are sharded along
    explicit axes (`jax.make_mesh`) give results that are sharded like them. Within `jax.shard_map`
    the backward pass is the one JAX derives, unless it is called with `check_vma=False`.

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
        TypeError: the cell is not hashable, `xs` is a list of time steps, or `seq_lengths`, `mask`
            or `resets` have the wrong type.
    """
    return checked_and_run(
        cell,
        params,
        xs,
        initial_carry,
        parallel=False,
        seq_lengths=seq_lengths,
        mask=mask,
        masked_output=masked_output,
        resets=resets,
        reset_carry=reset_carry,
        reverse=reverse,
        unroll=unroll,
        checkpoint_every=checkpoint_every,
        truncate_every=truncate_every,
        clip_adjoints=clip_adjoints,
        perturbations=perturbations,
        norm_probe=norm_probe,
        return_carries=return_carries,
    )
