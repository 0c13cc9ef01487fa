"""A function with a reverse mode of its own that keeps forward mode and higher derivatives.

`jax.custom_vjp` refuses `jax.jvp`. Here the tangent map is a primitive: pushed forward or
differentiated again it is the plain function's, only its transpose is the one supplied.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Arrays = Sequence[Any]


def with_backward(plain: Callable, forward: Callable, backward: Callable) -> Callable:
    """Return `run(floats, others) -> outs`, differentiable in every way with respect to `floats`.

    All arguments and results are lists of arrays; `others` may be of any type.

    Args:
        plain: `(floats, others) -> outs`, which JAX can differentiate.
        forward: `(floats, others) -> (outs, kept)`: the same values, and what `backward` needs.
        backward: `(wanted, floats, others, outs, kept, cotangents) -> gradients`, a list as long
            as `floats`; entries that `wanted` (booleans) does not ask for may be None, and so may
            cotangents, for zero.
    """

    @jax.custom_jvp
    def run(floats, others):
        return forward(floats, others)[0]

    @jax.custom_jvp
    def run_and_keep(floats, others):
        return forward(floats, others)

    def push(primals, tangents):
        outs, kept = run_and_keep(*primals)
        given = tuple(not isinstance(t, SymbolicZero) for t in tangents[0])
        groups = *primals, outs, kept, [t for t in tangents[0] if not isinstance(t, SymbolicZero)]
        push = functools.partial(_push_plain, plain, given)
        pull = functools.partial(_pull_plain, plain)
        rule = _Rule(push, pull, backward, given, tuple(map(len, groups)))
        return outs, kept, _push.bind(*itertools.chain(*groups), rule=rule)

    def run_jvp(primals, tangents):
        outs, _, pushed = push(primals, tangents)
        return outs, pushed

    def run_and_keep_jvp(primals, tangents):
        outs, kept, pushed = push(primals, tangents)
        return (outs, kept), (pushed, [SymbolicZero(jax.typeof(k).to_tangent_aval()) for k in kept])

    run.defjvp(run_jvp, symbolic_zeros=True)
    run_and_keep.defjvp(run_and_keep_jvp, symbolic_zeros=True)
    return run


@dataclasses.dataclass(frozen=True, eq=False)
class _Rule:
    """One tangent map: how it is pushed forward and pulled back, and what its operands are."""

    push: Callable  # (floats, others, tangents of those given) -> tangents of outs
    pull: Callable  # (floats, others, cotangents) -> gradients, as JAX differentiates
    backward: Callable  # the same and more arguments -> gradients
    given: tuple[bool, ...]  # which of the floats have a tangent
    sizes: tuple[int, ...]  # of floats, others, outs, kept and tangents

    def split(self, operands):
        operands = iter(operands)
        return [list(itertools.islice(operands, size)) for size in self.sizes]


def _push_plain(plain, given, floats, others, tangents):
    def function(moving):
        moving = iter(moving)
        return plain([next(moving) if g else f for g, f in zip(given, floats, strict=True)], others)

    moving = [f for g, f in zip(given, floats, strict=True) if g]
    return jax.jvp(function, (moving,), (tangents,))[1]


def _pull_plain(plain, floats, others, cotangents):
    outs, vjp = jax.vjp(lambda floats: plain(floats, others), floats)
    filled = zip(outs, cotangents, strict=True)
    return vjp([jnp.zeros_like(o) if c is None else c for o, c in filled])[0]


def _apply(*operands, rule):
    floats, others, _, _, tangents = rule.split(operands)
    return rule.push(floats, others, tangents)


def _differentiate(primals, tangents, *, rule):
    """Differentiate the tangent map; `outs` and `kept` depend on the floats and add nothing."""
    floats, others, _, _, pushed = rule.split(primals)
    moved, _, _, _, turned = rule.split(map(ad.instantiate_zeros, tangents))

    def function(floats, pushed):
        return rule.push(floats, others, pushed)

    return jax.jvp(function, (floats, pushed), (moved, turned))


def _transpose(cotangents, *operands, rule):
    *groups, tangents = rule.split(operands)
    linear = [ad.is_undefined_primal(t) for t in tangents]
    wanted = _spread(linear, rule.given, False)
    zero = [isinstance(c, ad.Zero) for c in cotangents]

    def fill(cotangents):
        return _spread(cotangents, [not z for z in zero], None)

    @jax.custom_jvp
    def pull(floats, others, outs, kept, cotangents):
        found = rule.backward(wanted, floats, others, outs, kept, fill(cotangents))
        return [g for g, w in zip(found, wanted, strict=True) if w]

    @pull.defjvp
    def _(primals, moves):
        floats, others, _, _, cotangents = primals

        def function(floats, cotangents):
            found = rule.pull(floats, others, fill(cotangents))
            return [g for g, w in zip(found, wanted, strict=True) if w]

        return jax.jvp(function, (floats, cotangents), (moves[0], moves[4]))

    found = pull(*groups, [c for c in cotangents if not isinstance(c, ad.Zero)])
    return [None] * (len(operands) - len(tangents)) + _spread(found, linear, None)


def _spread(values, places, blank):
    """Return the values at the true places and `blank` at the others."""
    values = iter(values)
    return [next(values) if place else blank for place in places]


def _batch(operands, dims, *, rule):
    """Map the tangent map; what is pushed, and what comes out of it, has the new axis first."""
    (size,) = {x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None}

    def first(x, dim):
        return jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)

    *groups, tangents = rule.split(operands)
    *axes, tangent_axes = rule.split(dims)
    groups[2] = [first(x, d) for x, d in zip(groups[2], axes[2], strict=True)]
    tangents = [first(x, d) for x, d in zip(tangents, tangent_axes, strict=True)]
    axes[2] = [0] * len(groups[2])

    def backward(wanted, *args):
        def one(*args):
            found = rule.backward(wanted, *args)
            return [g if w else None for g, w in zip(found, wanted, strict=True)]

        on_cotangents = [None if c is None else 0 for c in args[-1]]
        return jax.vmap(one, (*axes, on_cotangents), axis_size=size)(*args)

    def pull(floats, others, cotangents):
        on_cotangents = [None if c is None else 0 for c in cotangents]
        mapped = jax.vmap(rule.pull, (*axes[:2], on_cotangents), axis_size=size)
        return mapped(floats, others, cotangents)

    push = jax.vmap(rule.push, (*axes[:2], 0), axis_size=size)
    mapped = dataclasses.replace(rule, push=push, pull=pull, backward=backward)
    return _push.bind(*itertools.chain(*groups, tangents), rule=mapped), [0] * len(groups[2])


_push = Primitive("push_forward")
_push.multiple_results = True
_push.def_impl(_apply)
_push.def_abstract_eval(lambda *avals, rule: [a.to_tangent_aval() for a in rule.split(avals)[2]])
mlir.register_lowering(_push, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[_push] = _differentiate
ad.primitive_transposes[_push] = _transpose
batching.primitive_batchers[_push] = _batch
