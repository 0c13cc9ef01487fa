"""The fast path of gated cells: one matmul a step in each direction, all else outside the step.

    forward    u = x W + b                                  a chunk of steps at once
               v = h U;  s' = gates(s, u, v)                step by step
    backward   (ds, du, dv) = gates'^T ds';  dh += dv U^T   step by step
               dU += h^T dv;  dW, db, dx = project'^T du    a chunk of steps at once

What makes it fast on a CPU, with what it was worth where it was measured: an LSTM, B, T, D, H =
32, 1000, 32, 128, two cores, 16 examples on each, chunks of 25 steps.

- dU is one matmul a chunk, at the speed of a large matmul. A scan differentiated by JAX adds a
  product as large as U to an accumulator at every step: 143 ms in all where this takes 100.
- Its left side is transposed beforehand, so that it runs the same kernel as the other matmuls:
  1.2 -> .56 ms a chunk.
- A step touches nothing but its chunk's arrays, which are in cache; long arrays are read and
  written a chunk at a time, where memory streams: 16 -> 11 us of elementwise work a step backward.
- Arrays that are kept are read one by one. Cut out of one piece they do not vectorise: 11 -> 5 us.
- Activations are kept, not their arguments (halves.py): four transcendentals a step less.
- The gradient of a bias inside the gates is summed over the batch once, not at every step.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.gated import Gated, GatedStep, is_gated
from rnnjax.cells.kernels import matmul
from rnnjax.recurrence.activations import Half, cut
from rnnjax.recurrence.carries import partition
from rnnjax.recurrence.custom_derivatives import with_backward

PyTree = Any
CHUNK_BYTES = 1 << 20


def served(cell: Any, params: PyTree, carry: PyTree, xs: PyTree) -> bool:
    """Return whether `fast_scan` can do it: a gated cell, floats, and a step to do."""
    if not isinstance(cell, Gated) or not is_gated(cell):
        return False
    own, usual = type(cell), ("project", "recurrent_kernel", "elementwise")
    if any(getattr(own, name) is not getattr(Gated, name) for name in usual):
        return False
    if own.recurrent_input is not GatedStep.recurrent_input or params.recurrent_kernel.ndim != 2:
        return False
    leaves = jax.tree.leaves((carry, xs))
    return all(a.size and jnp.issubdtype(a.dtype, jnp.floating) for a in leaves)


def fast_scan(
    cell: Gated,
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
    arguments are `(params, carry, xs, now, shared)`, where `xs` and `now` have leaves
    `[T, *batch, ...]`; `carries` are those after each step. Forward mode and derivatives of the
    gradient are those of `plain`; `values` is `plain` without marks on the gradient.

    Args:
        lean: keep nothing but the carries for the backward pass, which then computes the gates of
            a chunk again, all its steps at once.
    """
    params, carry, xs, now, _ = arguments
    leaves, structure = jax.tree.flatten(arguments)
    floating = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
    carry_tree, outs = jax.tree.structure(carry), jax.tree.structure((carry, carry))
    total, batch = jax.tree.leaves(xs)[0].shape[0], carry.h.shape[:-1]

    def gates(carry, u, v, weights, now):
        return leave(carry, cell.gates(weights, carry, u, v), now)

    x, here = jax.eval_shape(lambda xs, now: _at((xs, now), 0), xs, now)
    u = jax.eval_shape(cell.project, params, x)
    v = jax.eval_shape(cell.recur, params, carry, None)
    weights = jax.eval_shape(functools.partial(_over_batch, cell, batch), params)
    half = cut(gates, carry, u, v, weights, here)
    # On a CPU, chunks of a megabyte of gates are in cache still when the large matmuls read them;
    # what fits in one chunk needs no copies: 1.31 -> 1.16 ms (LSTM; B, T, D, H = 16, 100, 2, 32).
    # Accelerators take all steps at once, unless that would undo what `lean` saves.
    fit = CHUNK_BYTES // max(1, sum(a.size * a.dtype.itemsize for a in u))
    small = total if total <= fit else max(4, min(64, fit))
    large = max(64, math.isqrt(total)) if lean else total
    walk = functools.partial(_Walk, cell, enter, half, reverse, lean, total)
    walks = {"cpu": walk(_whole(small, total)), "default": walk(_whole(large, total))}

    def by_platform(method, *args):
        if walks["cpu"].size == walks["default"].size:
            return method(walks["cpu"], *args)
        return lax.platform_dependent(
            *args, **{name: functools.partial(method, w) for name, w in walks.items()}
        )

    def join(floats, others):
        floats, others = iter(floats), iter(others)
        return structure.unflatten([next(floats if f else others) for f in floating])

    def flat(function):
        return lambda floats, others: jax.tree.leaves(function(*join(floats, others)))

    def forward(floats, others, keep):
        method = functools.partial(_Walk.forward, keep=keep and not lean)
        final, carries, kept = by_platform(method, *join(floats, others))
        return jax.tree.leaves((final, carries)), [kept]

    def backward(floats, others, found, kept, cotangents):
        after, count = outs.unflatten(found)[1], len(found) // 2
        pairs = zip(found[:count], cotangents[:count], strict=True)
        later = [jnp.zeros_like(a) if c is None else c for a, c in pairs]
        given = carry_tree.unflatten(later), cotangents[count:]
        return by_platform(_Walk.backward, *join(floats, others), after, *kept, *given)

    run = with_backward(flat(plain), flat(values), forward, backward)
    floats, others = (
        [leaf for leaf, f in zip(leaves, floating, strict=True) if f is want]
        for want in (True, False)
    )
    return outs.unflatten(run(floats, others))


@dataclasses.dataclass(frozen=True)
class _Walk:
    """The loops over T steps, by chunks of `size`, in processing order.

    Where `size` does not divide T the last chunk starts early and skips the steps done already.
    """

    cell: Gated
    enter: Callable
    half: Half
    reverse: bool
    lean: bool
    total: int
    size: int

    def chunks(self, one, loop, *, backwards=False):
        """Do `loop = one(start, skip, loop)` for each chunk; `skip` of its steps are done."""
        count, left = divmod(self.total, self.size)
        if self.size == self.total:
            return one(0, 0, loop)

        def body(c, loop):
            c = count + bool(left) - 1 - c if backwards else c
            if not left:
                return one(c * self.size, 0, loop)
            start = jnp.minimum(c * self.size, self.total - self.size)
            return one(start, c * self.size - start, loop)

        return lax.fori_loop(0, count + bool(left), body, loop)

    def row(self, k):
        """Return where step k of a chunk stands in the chunk's arrays, which are in input order."""
        return self.size - 1 - k if self.reverse else k

    def base(self, start):
        """Return where the arrays of a chunk begin in those of all T steps."""
        return self.total - self.size - start if self.reverse else start

    def forward(self, params, carry, xs, now, shared, *, keep):
        """Return the final carry, the carries after each step, and what backward needs."""
        cell, half, size = self.cell, self.half, self.size
        weights = _over_batch(cell, carry.h.shape[:-1], params)

        def step(us, now, offset, k, loop):
            carry, (after, kept) = loop
            row = self.row(k)
            here = _at(now, row)
            carry = self.enter(shared, carry, here)
            v = cell.recur(params, carry, None)
            carry, found = half.forward(carry, _at(us, row), v, weights, here)
            if found and keep:
                kept = _put(kept, jnp.stack(found), row)
            return carry, (_put(after, carry, offset + row), kept)

        def chunk(start, skip, loop):
            carry, rows, results = loop
            base = self.base(start)
            if self.total % size:
                rows = _rows(results, base, size)
            us, here = cell.project(params, _rows(xs, base, size)), _rows(now, base, size)
            one = functools.partial(step, us, here, 0 if keep else base)
            if not keep:  # outputs alone are written where they belong: 45 -> 31 ms
                carry, results = lax.fori_loop(skip, size, one, (carry, results))
                return carry, rows, results
            carry, rows = lax.fori_loop(skip, size, one, (carry, rows))
            return carry, rows, _put(results, rows, base, size)

        def blank(steps):
            kept = steps, half.size if keep else 0, *carry.h.shape
            after = jax.tree.map(lambda a: jnp.zeros((steps, *a.shape), a.dtype), carry)
            return after, jnp.zeros(kept, carry.h.dtype)

        carry, _, results = self.chunks(chunk, (carry, blank(size), blank(self.total)))
        return carry, *results

    def backward(self, params, first, xs, now, shared, after, kept, later, arriving):
        """Return the gradients of the first five arguments, a list without those of integers."""
        cell, half, size, batch = self.cell, self.half, self.size, first.h.shape[:-1]
        weights = _over_batch(cell, batch, params)
        transposed = params.recurrent_kernel.T  # once: 30 % of the step's matmul if left to it

        def step(read, kept, j, loop):
            later, sums, rows = loop
            row = self.row(size - 1 - j)
            (carry, after, now, arriving), saved = _at(read, row), _each(kept, row)
            floats, merge = partition(now)
            _, pull = jax.vjp(
                lambda *given: self.enter(*given[:2], merge(given[2])), shared, carry, floats
            )
            leaves, tree = jax.tree.flatten(later)
            pairs = zip(leaves, arriving, strict=True)
            later = tree.unflatten([s if a is None else s + a for s, a in pairs])
            later, du, dv, of_weights = half.backward(carry, after, saved, weights, now, later)
            du = [d for d, same in zip(du, half.same, strict=True) if not same]
            dv = jnp.concatenate(dv, axis=-1)
            later = later._replace(h=later.h + matmul(dv, transposed, cell.dtype))
            of_shared, later, floats = pull(later)
            sums = jax.tree.map(jnp.add, sums, (of_weights, of_shared))
            return later, sums, _put(rows, (du, dv, floats), row)

        def entering(base, start, now):
            """Return the carries as they entered the steps of a chunk, all at once."""

            def shifted():
                def shift(f, a):
                    return jnp.concatenate([a[1:], f[None]] if self.reverse else [f[None], a[:-1]])

                return jax.tree.map(shift, first, _rows(after, base, size))

            def earlier():
                back = base + (1 if self.reverse else -1)
                return _rows(after, jnp.clip(back, 0, self.total - size), size)

            before = (
                shifted() if self.size == self.total else lax.cond(start == 0, shifted, earlier)
            )
            return self.enter(shared, before, now)

        def chunk(start, skip, loop):
            later, sums, rows, kernels, results = loop
            base = self.base(start)
            x, saved, here, *read = _rows((xs, kept, now, after, arriving), base, size)
            carry = entering(base, start, here)
            if self.lean and half.size:
                us, v = cell.project(params, x), cell.recur(params, carry, None)
                saved = jnp.stack(half.forward(carry, us, v, weights, here)[1], axis=1)
            one = functools.partial(step, (carry, read[0], here, read[1]), saved)
            later, sums, rows = lax.fori_loop(0, size - skip, one, (later, sums, rows))
            apart, dv, dnow = rows
            apart, parts = iter(apart), zip(cell.split(dv), half.same, strict=True)
            du = jnp.concatenate([p if same else next(apart) for p, same in parts], axis=-1)
            found = (
                _outer(cell, x, du),
                _outer(cell, carry.h, dv),
                du.sum(tuple(range(du.ndim - 1))),
            )
            kernels = jax.tree.map(lambda s, g: s + g.astype(s.dtype), kernels, found)
            dx = matmul(du, params.input_kernel.T, cell.dtype)
            return later, sums, rows, kernels, _put(results, (dx, dnow), base, size)

        def wide(a):  # sums over chunks, of parameters in bfloat16 too
            return jnp.zeros(a.shape, jnp.promote_types(a.dtype, jnp.float32))

        def blank(steps):
            return [jnp.zeros((steps, *a.shape[1:]), a.dtype) for a in partition(now)[0]]

        gate = jnp.zeros((size, *first.h.shape), transposed.dtype)
        apart = [gate for same in half.same if not same]
        rows = apart, jnp.concatenate([gate] * len(half.same), axis=-1), blank(size)
        sums = jax.tree.map(jnp.zeros_like, (weights, shared))
        kernels = jax.tree.map(wide, (params.input_kernel, params.recurrent_kernel, params.bias))
        results = jnp.zeros(xs.shape, xs.dtype), blank(self.total)
        loop = later, sums, rows, kernels, results
        later, sums, _, kernels, (dxs, dnow) = self.chunks(chunk, loop, backwards=True)
        named = zip(("input_kernel", "recurrent_kernel", "bias"), kernels, strict=True)
        dparams = jax.tree.map(_like, sums[0], cell.elementwise(params))
        dparams = dparams._replace(
            **{name: sum_.astype(getattr(params, name).dtype) for name, sum_ in named}
        )
        return jax.tree.leaves((dparams, later, dxs, dnow, sums[1]))


def _outer(cell, rows, cotangents):
    """Return the gradient of W in `rows W`, summed over time and batch.

    Transposed beforehand, it is the same kernel as the other matmuls, and up to four times faster.
    """
    kind = None if cell.dtype is None else cotangents.dtype
    if kind is not None:
        rows, cotangents = rows.astype(cell.dtype), cotangents.astype(cell.dtype)
    rows = lax.optimization_barrier(jnp.moveaxis(rows, -1, 0))
    return jnp.tensordot(rows, cotangents, rows.ndim - 1, preferred_element_type=kind)


def _whole(size, total):
    """Return the size of chunks, at most `size`: one that divides T if that is not far below."""
    size = min(size, total)
    return next((k for k in range(size, size // 2, -1) if total % k == 0), size)


def _over_batch(cell, batch, params):
    """Return the elementwise parameters, those `[H]` repeated for each example.

    Their gradients are then elementwise too, and summed over the batch once, after the loop.
    """

    def repeat(p):
        return jnp.broadcast_to(p, (*batch, *p.shape)) if p.shape == (cell.features,) else p

    return jax.tree.map(repeat, cell.elementwise(params))


def _like(gradient, param):
    """Undo `_over_batch`."""
    return gradient.sum(tuple(range(gradient.ndim - param.ndim)))


def _rows(tree, start, size):
    """Return `size` entries of the leading axis, from `start` on."""

    def rows(a):
        if a.shape[0] == size:
            return a
        return lax.dynamic_slice_in_dim(a, start, size, allow_negative_indices=False)

    return jax.tree.map(rows, tree)


def _at(tree, t):
    """Return entry t of the leading axis."""
    return jax.tree.map(
        lambda a: lax.dynamic_index_in_dim(a, t, keepdims=False, allow_negative_indices=False), tree
    )


def _each(stacked, t):
    """Return the n arrays of entry t of `[T, n, ...]`, read one by one: cuts do not vectorise."""
    shape = stacked.shape[2:]
    return [
        lax.dynamic_slice(
            stacked, (t, i, *(0 for _ in shape)), (1, 1, *shape), allow_negative_indices=False
        ).reshape(shape)
        for i in range(stacked.shape[1])
    ]


def _put(tree, values, t, size=None):
    """Write entry t of the leading axis, or `size` of them from t on."""

    def put(a, value):
        if a.shape == value.shape:
            return value.astype(a.dtype)
        value = value.astype(a.dtype) if size else value.astype(a.dtype)[None]
        return lax.dynamic_update_slice(
            a, value, (t,) + (0,) * (a.ndim - 1), allow_negative_indices=False
        )

    return jax.tree.map(put, tree, values)
