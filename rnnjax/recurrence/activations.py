"""The arithmetic of a gated cell, cut where its backward pass needs to keep the least.

The slopes of tanh, the logistic and exp follow from their values. With the values kept, the
backward pass needs neither the arguments nor the functions themselves: four of the LSTM's five.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from rnnjax.recurrence.jaxprs import bind, evaluated, used

PyTree = Any
_SLOPES = {
    primitives.tanh_p: lambda y: 1 - y * y,
    primitives.logistic_p: lambda y: y * (1 - y),
    primitives.exp_p: lambda y: y,
}


class Half(NamedTuple):
    """A function `half(carry, u, v, shared, flags) -> new carry` in two parts."""

    forward: Callable  # its arguments -> new carry, and a list of arrays to keep
    backward: Callable  # carry, new carry, kept, shared, flags, cotangent -> d(carry, u, v, shared)
    same: tuple[int | None, ...]  # for each entry of u, the entry of v with the same cotangent
    kept: tuple[jax.ShapeDtypeStruct, ...]  # the arrays to keep


def cut(half: Callable, carry: PyTree, u: list, v: tuple, shared: PyTree, flags: PyTree) -> Half:
    """Return `half` cut in two, for arguments of these shapes; `flags` has no derivative."""

    both = len(u) + len(v)

    def record(carry, u, v, shared, flags, note=lambda equation, argument: None):
        values = []

        def handle(equation, inputs):
            if equation.primitive is primitives.name_p:
                return inputs
            if equation.primitive in _SLOPES or _adds(equation, inputs, u, v):
                note(equation, inputs[0])
                values.extend(bind(equation, inputs))
                return values[-1:]
            return None

        new = evaluated(half, handle)(carry, u, v, shared, flags)
        return new, [*values, *u, *v]

    def pull(carry, values, shared, flags, cotangent):
        values, us, vs = values[:-both], values[-both : -len(v)], values[-len(v) :]

        def replay(carry, u, v, shared):
            known = iter(values)

            def handle(equation, inputs):
                if equation.primitive is primitives.name_p:
                    return inputs
                if equation.primitive in _SLOPES:
                    return [_with_slope(_SLOPES[equation.primitive], *inputs, next(known))]
                return [_sum(*inputs, next(known))] if _adds(equation, inputs, u, v) else None

            return evaluated(half, handle)(carry, u, v, shared, flags)

        _, vjp = jax.vjp(replay, carry, us, tuple(vs), shared)
        return vjp(cotangent)

    # A leaf of the new carry is stored anyway, and an activation of one, like the LSTM's tanh(c'),
    # is cheaper to compute again than to write and read.
    sources: list[Callable | None] = []

    def trace(*args):
        made: list[tuple] = []
        new, values = record(*args, note=lambda *how: made.append(how))
        made.extend((None, None) for _ in range(len(values) - len(made)))
        leaves = jax.tree.leaves(new)
        for value, (equation, argument) in zip(values, made, strict=True):
            source = None
            for i, leaf in enumerate(leaves):
                if leaf is value:
                    source = functools.partial(lambda i, leaves: leaves[i], i)
                elif leaf is argument and equation.primitive in _SLOPES:
                    source = functools.partial(
                        lambda equation, i, leaves: bind(equation, [leaves[i]])[0], equation, i
                    )
            sources.append(source)
        return new, values

    new, values = jax.eval_shape(trace, carry, u, v, shared, flags)
    traced = jax.make_jaxpr(pull)(carry, values, shared, flags, new).jaxpr
    before = len(jax.tree.leaves(carry))
    needed = used(traced)[before : before + len(values)]
    du, dv = traced.outvars[before:][: len(u)], traced.outvars[before + len(u) :][: len(v)]
    stored = [need and source is None for need, source in zip(needed, sources, strict=True)]

    def forward(*args):
        new, values = record(*args)
        return new, [x for x, store in zip(values, stored, strict=True) if store]

    def backward(carry, new, kept, shared, flags, cotangent):
        leaves, rest = jax.tree.leaves(new), iter(kept)

        def value(like, need, source):
            if not need:
                return jnp.zeros(like.shape, like.dtype)
            return next(rest) if source is None else source(leaves)

        known = [value(*x) for x in zip(values, needed, sources, strict=True)]
        return pull(carry, known, shared, flags, cotangent)

    same = tuple(next((i for i, b in enumerate(dv) if a is b), None) for a in du)
    kept = tuple(x for x, store in zip(values, stored, strict=True) if store)
    return Half(forward, backward, same, kept)


def _adds(equation, inputs, u, v):
    """Return whether an equation adds an entry of u and one of v: a gate's pre-activation."""
    if equation.primitive is not primitives.add_p:
        return False
    return any(any(a is x for x in u) and any(b is x for x in v) for a, b in (inputs, inputs[::-1]))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_slope(slope, x, y):
    del slope, x
    return y


@_with_slope.defjvp
def _with_slope_jvp(slope, primals, tangents):
    return primals[1], tangents[0] * slope(primals[1])


@jax.custom_jvp
def _sum(a, b, y):
    del a, b
    return y


@_sum.defjvp
def _sum_jvp(primals, tangents):
    return primals[2], tangents[0] + tangents[1]
