"""A function with its own reverse mode that keeps forward mode and higher derivatives.

`jax.custom_vjp` refuses `jax.jvp`. Here the tangent map is a primitive. Pushed forward, or
differentiated again, it is that of the plain function; only its transpose is the one supplied.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def with_backward(
    plain: Callable, values: Callable, forward: Callable, backward: Callable
) -> Callable:
    """Return `run(floats, others) -> outs`, differentiable in every way with respect to `floats`.

    All arguments and results are lists of arrays; `others` may be of any type.

    Args:
        plain: `(floats, others) -> outs`, which JAX can differentiate.
        values: `plain` without any gradient rules of its own; it is differentiated where `outs`
            are part of a gradient.
        forward: `(floats, others, keep) -> (outs, kept)`: the same values and, with `keep`, the
            arrays that `backward` needs.
        backward: `(floats, others, outs, kept, cotangents) -> gradients` of all floats; the
            compiler removes unused ones. A cotangent may be None, which means zero.
    """

    @jax.custom_jvp
    def run(floats, others):
        return forward(floats, others, keep=False)[0]

    @jax.custom_jvp
    def run_and_keep(floats, others):
        return forward(floats, others, keep=True)

    def run_jvp(primals, tangents):
        outs, kept = run_and_keep(*primals)
        given = tuple(not isinstance(t, SymbolicZero) for t in tangents[0])
        groups = *primals, outs, kept, [t for t in tangents[0] if not isinstance(t, SymbolicZero)]
        push = functools.partial(_push_plain, plain, given)
        pull = functools.partial(_pull_plain, plain)
        shapes = tuple(jnp.shape(f) for f in primals[0])
        rule = _Rule(push, pull, backward, given, tuple(map(len, groups)), shapes)
        return outs, _push.bind(*itertools.chain(*groups), rule=rule)

    def run_and_keep_jvp(primals, tangents):
        floats, others = primals
        outs, kept = run_and_keep(floats, others)
        given = tuple(not isinstance(t, SymbolicZero) for t in tangents[0])
        moved = [t for t in tangents[0] if not isinstance(t, SymbolicZero)]
        pushed = _push_plain(values, given, floats, others, moved)
        return (outs, kept), (pushed, [SymbolicZero(jax.typeof(k).to_tangent_aval()) for k in kept])

    run.defjvp(run_jvp, symbolic_zeros=True)
    run_and_keep.defjvp(run_and_keep_jvp, symbolic_zeros=True)
    return run


@dataclasses.dataclass(frozen=True, eq=False)
class _Rule:
    """One tangent map: how it is pushed forward and pulled back, and the layout of its operands."""

    push: Callable  # (floats, others, tangents of those given) -> tangents of outs
    pull: Callable  # (floats, others, cotangents) -> gradients, as JAX differentiates
    backward: Callable  # the same and more arguments -> gradients
    given: tuple[bool, ...]  # which of the floats have a tangent
    sizes: tuple[int, ...]  # of floats, others, outs, kept and tangents
    shapes: tuple[tuple[int, ...], ...]  # of the gradients of the floats

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
    """Differentiate the tangent map; `outs` and `kept` follow from the floats and add nothing."""
    floats, others, _, _, pushed = rule.split(primals)
    moved, _, _, _, turned = rule.split(map(ad.instantiate_zeros, tangents))

    def function(floats, pushed):
        return rule.push(floats, others, pushed)

    return jax.jvp(function, (floats, pushed), (moved, turned))


def _transpose(cotangents, *operands, rule):
    *groups, tangents = rule.split(operands)
    linear = [ad.is_undefined_primal(t) for t in tangents]
    wanted = tuple(_spread(linear, rule.given, False))
    known = tuple(not isinstance(c, ad.Zero) for c in cotangents)
    rule = dataclasses.replace(rule, sizes=(*rule.sizes[:4], sum(known)))
    groups.append([c for c, k in zip(cotangents, known, strict=True) if k])
    found = _pull.bind(*itertools.chain(*groups), rule=rule, wanted=wanted, known=known)
    return [None] * (len(operands) - len(tangents)) + _spread(found, linear, None)


def _apply_transpose(*operands, rule, wanted, known):
    *groups, cotangents = rule.split(operands)
    found = rule.backward(*groups, _spread(cotangents, known, None))
    return [g for g, w in zip(found, wanted, strict=True) if w]


def _differentiate_transpose(primals, tangents, *, rule, wanted, known):
    floats, others, _, _, cotangents = rule.split(primals)
    moved, _, _, _, turned = rule.split(map(ad.instantiate_zeros, tangents))

    def function(floats, cotangents):
        found = rule.pull(floats, others, _spread(cotangents, known, None))
        return [g for g, w in zip(found, wanted, strict=True) if w]

    return jax.jvp(function, (floats, cotangents), (moved, turned))


def _spread(values, places, blank):
    """Return the values at the true places and `blank` at the others."""
    values = iter(values)
    return [next(values) if place else blank for place in places]


def _batch(primitive, operands, dims, *, rule, **params):
    """Map the rule's functions; what is pushed or pulled, and the result, have axis 0."""
    (size,) = {x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None}

    def first(x, dim):
        return jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)

    groups, axes = rule.split(operands), rule.split(dims)
    for i in (2, 4):
        groups[i] = [first(x, d) for x, d in zip(groups[i], axes[i], strict=True)]
        axes[i] = [0] * len(groups[i])

    def mapped(function, *axes):
        def on(*args):
            on_last = [None if c is None else 0 for c in args[-1]]
            return jax.vmap(function, (*axes, on_last), axis_size=size)(*args)

        return on

    backward = mapped(rule.backward, *axes[:4])
    push, pull = (mapped(function, *axes[:2]) for function in (rule.push, rule.pull))
    shapes = tuple((size, *shape) for shape in rule.shapes)
    own = dataclasses.replace(rule, push=push, pull=pull, backward=backward, shapes=shapes)
    found = primitive.bind(*itertools.chain(*groups), rule=own, **params)
    return found, [0] * len(found)


def _like_outs(*avals, rule):
    return [a.to_tangent_aval() for a in rule.split(avals)[2]]


def _like_floats(*avals, rule, wanted, known):
    del known
    floats = zip(rule.split(avals)[0], rule.shapes, wanted, strict=True)
    return [
        (a if a.shape == shape else a.update(shape=shape)).to_tangent_aval()
        for a, shape, want in floats
        if want
    ]


def _primitive(name, apply, differentiate, like):
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(apply)
    primitive.def_abstract_eval(like)
    mlir.register_lowering(primitive, mlir.lower_fun(apply, multiple_results=True))
    ad.primitive_jvps[primitive] = differentiate
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


_push = _primitive("push_forward", _apply, _differentiate, _like_outs)
_pull = _primitive("pull_back", _apply_transpose, _differentiate_transpose, _like_floats)
ad.primitive_transposes[_push] = _transpose
