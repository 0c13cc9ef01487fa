"""The backward loop of the fast path: one product a step, and kernels' gradients by the chunk."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.kernels import product, product_back, transposed
from rnnjax.recurrence.carries import RealLeaves, partition
from rnnjax.recurrence.chunks import Chunks, at, put, rows
from rnnjax.recurrence.kernel_gradients import kernel_gradient, with_outer
from rnnjax.recurrence.options import batch_shape
from rnnjax.recurrence.plan import Plan, pick, spread

PyTree = Any


def backward(
    plan: Plan,
    chunks: Chunks,
    ready: PyTree,
    first: PyTree,
    xs: PyTree,
    now: PyTree,
    shared: PyTree,
    after: PyTree,
    kept: list,
    later: PyTree,
    arriving: list,
) -> list:
    """Return the gradients of the real leaves of `ready`, `first`, `xs`, `now` and `shared`.

    Args:
        after: the carries after each step.
        kept: what `forward` kept.
        later: the cotangent of the final carry.
        arriving: those of the leaves of `after`; None for zero.
    """
    cell, half, size, count = plan.cell, plan.half, chunks.size, plan.count
    stacks, real_xs = plan.kept, RealLeaves.of(xs)
    weights, weights_rest = plan.weights_over(batch_shape(cell, xs), ready)
    kernel = cell.recurrent_kernel(ready)
    back = transposed(kernel)  # once: 30 % of the step's matmul if it were done there
    ready_floats, ready_rest = plan.ready.split(ready)

    def step(read, saved, j, loop):
        later, sums, scratch = loop
        row = chunks.row(size - 1 - j)
        carry, after, some_u, u_rest, now, arriving = at(read, row)
        floats, merge = partition(now)
        _, pull = jax.vjp(
            lambda *given: plan.enter(*given[:2], merge(given[2])), shared, carry, floats
        )
        leaves, tree = jax.tree.flatten(later)
        pairs = zip(leaves, arriving, strict=True)
        later = tree.unflatten([s if a is None else s + a for s, a in pairs])
        flags = u_rest, weights_rest, now
        later, du, dv, of_weights = half.backward(
            carry, after, stacks.at(saved, row), weights, flags, later
        )
        multiplied = functools.partial(_multiplied, plan, u_rest)
        a, pull_input = jax.vjp(multiplied, carry, some_u)
        da, du_more = pull_input(product_back(dv, back, cell.dtype).astype(a.dtype))
        later = jax.tree.map(jnp.add, later, da)
        more = spread(du_more, plan.by_input, [None] * len(du))
        du = [d if m is None else d + m for d, m in zip(du, more, strict=True)]
        du = [d for d, place in zip(du, own, strict=True) if place is None]
        of_shared, later, floats = pull(later)
        sums = jax.tree.map(jnp.add, sums, (of_weights, of_shared))
        return later, sums, put(scratch, (du, jnp.concatenate(dv, axis=-1), floats), row)

    # The place in dv of each cotangent of u that is one of dv's; those of others are kept apart.
    own = [None if used else i for i, used in zip(half.same, plan.by_input, strict=True)]

    def entering(base, start, now):
        """Return the carries that entered the steps of a chunk, all at once."""

        def shifted():
            def shift(f, a):
                return jnp.concatenate([a[1:], f[None]] if chunks.reverse else [f[None], a[:-1]])

            return jax.tree.map(shift, first, rows(after, base, size))

        def earlier():
            before = base + (1 if chunks.reverse else -1)
            return rows(after, jnp.clip(before, 0, chunks.total - size), size)

        before = shifted() if size == chunks.total else lax.cond(start == 0, shifted, earlier)
        return plan.enter(shared, before, now)

    def chunk(start, skip, loop):
        later, sums, scratch, kernels, results = loop
        base = chunks.base(start)
        x, saved, here, *read = rows((xs, kept, now, after, arriving), base, size)
        x_floats, x_rest = real_xs.split(x)

        def input_half(some, x_floats):
            params = plan.ready.join(spread(some, plan.by_project, ready_floats), ready_rest)
            u = with_outer(cell.project)(params, real_xs.join(x_floats, x_rest))
            return plan.u.split(u)

        us, pull, us_rest = jax.vjp(
            input_half, pick(ready_floats, plan.by_project), x_floats, has_aux=True
        )
        carry = entering(base, start, here)
        a = cell.recurrent_input(carry, plan.u.join(us, us_rest))
        if plan.lean and half.kept:
            v, flags = product(a, kernel, count, cell.dtype), (us_rest, weights_rest, here)
            found = half.forward(carry, us, v, weights, flags)[1]
            saved = stacks.pack_steps(found, size)
        read = carry, read[0], pick(us, plan.by_input), us_rest, here, read[1]
        one = functools.partial(step, read, saved)
        later, sums, scratch = lax.fori_loop(0, size - skip, one, (later, sums, scratch))
        apart, dv, dnow = scratch
        apart, parts = iter(apart), jnp.split(dv, count, axis=-1)
        du = [next(apart) if place is None else parts[place] for place in own]
        du = [d.astype(like.dtype) for d, like in zip(du, us, strict=True)]
        of_project, dx = pull(du)
        found = of_project, kernel_gradient(a, dv, kernel, count, cell.dtype)
        kernels = jax.tree.map(lambda s, g: s + g.astype(s.dtype), kernels, found)
        return later, sums, scratch, kernels, put(results, (dx, dnow), base, size)

    def blank(steps):
        return [jnp.zeros((steps, *a.shape[1:]), a.dtype) for a in partition(now)[0]]

    u = jax.eval_shape(lambda ready, xs: cell.project(ready, at(xs, 0)), ready, xs)
    v = jax.eval_shape(cell.recur, ready, first, u)
    packed = jnp.concatenate([jnp.zeros((size, *block.shape), block.dtype) for block in v], -1)
    likes = [like for like, place in zip(plan.u.split(u)[0], own, strict=True) if place is None]
    apart = [jnp.zeros((size, *like.shape), like.dtype) for like in likes]
    sums = jax.tree.map(jnp.zeros_like, (weights, shared))
    kernels = jax.tree.map(_wide, (pick(ready_floats, plan.by_project), kernel))
    results = [jnp.zeros_like(x) for x in real_xs.split(xs)[0]], blank(chunks.total)
    loop = later, sums, (apart, packed, blank(size)), kernels, results
    later, sums, _, kernels, (dxs, dnow) = chunks.each(chunk, loop, backwards=True)
    dready = _of_ready(plan, ready, sums[0], *kernels)
    return [*dready, *jax.tree.leaves(later), *dxs, *dnow, *jax.tree.leaves(sums[1])]


def _multiplied(plan, u_rest, carry, some_u):
    """Return the recurrent input from the carry and those leaves of u that it depends on."""
    blank = [jnp.zeros(())] * len(plan.by_input)
    return plan.cell.recurrent_input(
        carry, plan.u.join(spread(some_u, plan.by_input, blank), u_rest)
    )


def _of_ready(plan, ready, of_weights, of_project, of_kernel):
    """Return the gradient of each real leaf of `ready`, summed over its uses."""
    floats, rest = plan.ready.split(ready)

    def parts(floats):
        ready = plan.ready.join(floats, rest)
        weights = plan.weights.split(plan.cell.elementwise(ready))[0]
        return weights, plan.cell.recurrent_kernel(ready)

    (weights, kernel), pull = jax.vjp(parts, floats)
    of_weights = [
        g.sum(tuple(range(g.ndim - w.ndim))) for g, w in zip(of_weights, weights, strict=True)
    ]
    (found,) = pull((of_weights, of_kernel.astype(kernel.dtype)))
    of_project = iter(of_project)
    return [
        g + next(of_project).astype(g.dtype) if used else g
        for g, used in zip(found, plan.by_project, strict=True)
    ]


def _wide(a):
    """Return a sum over chunks that starts at zero: in float32 of parameters in bfloat16 too."""
    return jnp.zeros(a.shape, jnp.promote_types(a.dtype, jnp.float32))
