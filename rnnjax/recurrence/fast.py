"""The fast path of gated cells: one product a step in each direction, all else by the chunk.

    forward    u = project(x)                                     a chunk of steps at once
               v = a(s) U;  s' = gates(s, u, v)                   step by step
    backward   (ds, du, dv) = gates'^T ds';  ds += a'^T dv U^T    step by step
               dU += a^T dv;  dW, db, dx = project'^T du          a chunk of steps at once

`docs/internals/fast_backward.md` derives it and says what each part is worth.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.recurrence.backward import backward
from rnnjax.recurrence.carries import RealLeaves
from rnnjax.recurrence.chunks import Chunks
from rnnjax.recurrence.custom_derivatives import with_backward
from rnnjax.recurrence.forward import forward
from rnnjax.recurrence.plan import make_plan

PyTree = Any
CHUNK_BYTES = 1 << 20


def served(cell: Any, ready: PyTree, carry: PyTree, xs: PyTree) -> bool:
    """Return whether `fast_scan` can run it: a gated cell with a real carry, and a step to do.

    Integers in the carry and complex numbers take the plain path.
    """
    if not is_gated(cell):
        return False
    leaves = jax.tree.leaves(carry)
    if not all(a.size and jnp.issubdtype(a.dtype, jnp.floating) for a in leaves):
        return False
    others = jax.tree.leaves((ready, xs))
    if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in others):
        return False
    return all(a.size for a in jax.tree.leaves(xs))


def fast_scan(
    cell: GatedStep,
    plain: Callable,
    values: Callable,
    enter: Callable,
    leave: Callable,
    arguments: tuple,
    *,
    reverse: bool,
    lean: bool,
) -> tuple[PyTree, PyTree]:
    """Return `plain(*arguments) = (final, carries)`, with the backward pass above.

    A step is `s = enter(shared, s, now_t)`, then `leave(s, gates(s, u, v), now_t)`, and the
    arguments are `(ready, carry, xs, now, shared)`, where `xs` and `now` have leaves
    `[T, *batch, ...]`; `carries` are those after each step. Forward mode and derivatives of the
    gradient are those of `plain`; `values` is `plain` without marks on the gradient.

    Args:
        lean: keep only the carries for the backward pass, which then computes the gates of a
            chunk again, all its steps at once.
    """
    carry = arguments[1]
    leaves = RealLeaves.of(arguments)
    carry_tree, outs = jax.tree.structure(carry), jax.tree.structure((carry, carry))
    plan = make_plan(cell, enter, leave, arguments, lean)
    chunks = _chunks(plan, arguments, reverse)

    def by_platform(method, *args):
        if chunks["cpu"] == chunks["default"]:
            return method(chunks["cpu"], *args)
        return lax.platform_dependent(
            *args, **{name: functools.partial(method, c) for name, c in chunks.items()}
        )

    def flat(function):
        return lambda floats, others: jax.tree.leaves(function(*leaves.join(floats, others)))

    def run_forward(floats, others, keep):
        method = functools.partial(forward, plan, keep=keep and not lean)
        final, carries, kept = by_platform(method, *leaves.join(floats, others))
        return jax.tree.leaves((final, carries)), kept

    def run_backward(floats, others, found, kept, cotangents):
        after, count = outs.unflatten(found)[1], len(found) // 2
        pairs = zip(found[:count], cotangents[:count], strict=True)
        later = [jnp.zeros_like(a) if c is None else c for a, c in pairs]
        given = carry_tree.unflatten(later), cotangents[count:]
        method = functools.partial(backward, plan)
        return by_platform(method, *leaves.join(floats, others), after, kept, *given)

    run = with_backward(flat(plain), flat(values), run_forward, run_backward)
    return outs.unflatten(run(*leaves.split(arguments)))


def _chunks(plan, arguments, reverse):
    """Return the chunks for each platform.

    On a CPU, chunks of a megabyte of gates are still in cache when the large matmuls read them;
    what fits in one chunk needs no copies: 1.31 -> 1.16 ms (LSTM; B, T, D, H = 16, 100, 2, 32).
    Accelerators take all steps at once, unless that would undo what `lean` saves. So does every
    platform whose program is exported with symbolic sizes (`jax.export`).
    """
    ready, _, xs, *_ = arguments
    total = jax.tree.leaves(xs)[0].shape[0]
    us = plan.u.split(jax.eval_shape(plan.cell.project, ready, xs))[0]
    if not all(isinstance(size, int) for u in us for size in u.shape):
        return dict.fromkeys(("cpu", "default"), Chunks(total, total, reverse))
    fit = CHUNK_BYTES // max(1, sum(u.size * u.dtype.itemsize for u in us) // total)
    small = total if total <= fit else max(4, min(64, fit))
    large = max(64, math.isqrt(total)) if plan.lean else total
    sizes = {"cpu": small, "default": large}
    return {name: Chunks.at_most(size, total, reverse) for name, size in sizes.items()}
