"""A function evaluated equation by equation from its jaxpr, with a handler for each."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Literal, primitives

PyTree = Any
Handler = Callable[[Any, Sequence[Any]], Sequence[Any] | None]


def evaluated(function: Callable, handle: Handler) -> Callable:
    """Return `function`, with the outputs of each equation given by `handle(equation, inputs)`.

    Where it returns None the equation is evaluated unchanged. A call of a jitted function is
    offered to `handle` first; if it returns None, the equations inside are. Equations inside
    loops, branches and custom derivative rules are not seen.
    """

    def run(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        values = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), handle)
        return jax.tree.unflatten(jax.tree.structure(shape), values)

    return run


def bind(equation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return the outputs of an equation for these inputs."""
    primitive = equation.primitive
    outputs = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return outputs if primitive.multiple_results else [outputs]


def used(jaxpr: Any) -> list[bool]:
    """Return which arguments of a jaxpr its results depend on."""
    live = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    for equation in reversed(jaxpr.eqns):
        if not live.isdisjoint(equation.outvars):
            live |= {atom for atom in equation.invars if not isinstance(atom, Literal)}
    return [argument in live for argument in jaxpr.invars]


def count(jaxpr: Any, names: Collection[str]) -> int:
    """Return how many equations have primitives of these names, in jitted functions too."""
    found = 0
    for equation in jaxpr.eqns:
        found += equation.primitive.name in names
        inner = [value for value in equation.params.values() if isinstance(value, ClosedJaxpr)]
        found += sum(count(closed.jaxpr, names) for closed in inner)
    return found


def elementwise_vectors(jaxpr: Any) -> list[bool]:
    """Return which arguments `[H]` of a jaxpr are used feature by feature alone.

    They enter elementwise functions of other vectors, and are broadcast along their last axis. Such
    an argument may be repeated for each example of a batch, where an indexed one may not.
    """
    sources = {v: {i} for i, v in enumerate(jaxpr.invars) if v.aval.ndim == 1}
    others = set()
    for equation in jaxpr.eqns:
        atoms = [atom for atom in equation.invars if not isinstance(atom, Literal)]
        found = set().union(*(sources.get(atom, set()) for atom in atoms))
        if not found:
            continue
        if equation.primitive is primitives.broadcast_in_dim_p:
            axes, shape = (equation.params[k] for k in ("broadcast_dimensions", "shape"))
            if axes == (len(shape) - 1,) and len(shape) > 1:
                continue
        out = equation.outvars[0]
        if equation.primitive.name in _ELEMENTWISE and out.aval.ndim == 1:
            sources[out] = found
        else:
            others |= found
    for atom in jaxpr.outvars:
        others |= set() if isinstance(atom, Literal) else sources.get(atom, set())
    return [v in sources and i not in others for i, v in enumerate(jaxpr.invars)]


def unitwise(jaxpr: Any) -> bool:
    """Return whether every entry of the results depends on the arguments' entries at its own place.

    All arguments have one shape, and so have the results. Constants may have any. It is certain
    where it says yes: of the equations that depend on the arguments, each is elementwise.
    """
    return _elementwise_outputs(jaxpr, [True] * len(jaxpr.invars)) is not None


def _elementwise_outputs(jaxpr, dependent):
    """Return which outputs depend on the dependent inputs; None if some do not entry by entry."""
    live = {v for v, is_live in zip(jaxpr.invars, dependent, strict=True) if is_live}
    shapes = {v.aval.shape for v in live}

    def is_live(atom):
        return not isinstance(atom, Literal) and atom in live

    for equation in jaxpr.eqns:
        inputs = [is_live(atom) for atom in equation.invars]
        if not any(inputs):
            continue
        inner = _called(equation)
        if inner is not None:
            outputs = _elementwise_outputs(inner, inputs[len(inputs) - len(inner.invars) :])
            if outputs is None:
                return None
        elif equation.primitive.name in _ELEMENTWISE | _CHOOSING:
            outputs = [True] * len(equation.outvars)
        else:
            return None
        live |= {v for v, own in zip(equation.outvars, outputs, strict=True) if own}
        if not {v.aval.shape for v in equation.outvars if v in live} <= shapes:
            return None
    return [is_live(atom) for atom in jaxpr.outvars]


def _called(equation):
    """Return the jaxpr that an equation calls with its own arguments, or None."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if equation.primitive.name in _CALLS and key in equation.params:
            inner = equation.params[key]
            return getattr(inner, "jaxpr", inner)
    return None


_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2"}
_CHOOSING = {"select_n", "clamp", "name", "stop_gradient", "ge", "gt", "le", "lt", "eq", "ne"}
_NAMES = (
    "add sub mul div neg exp exp2 expm1 log log1p tanh logistic abs sign sqrt rsqrt cbrt pow "
    "integer_pow square max min sin cos erf convert_element_type copy"
)
_ELEMENTWISE = frozenset(_NAMES.split())


def _evaluate(jaxpr, consts, args, handle):
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        outputs = handle(equation, inputs)
        if outputs is None and equation.primitive is primitives.jit_p:
            inner = equation.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs, handle)
        elif outputs is None:
            outputs = bind(equation, inputs)
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
