"""A function evaluated equation by equation, by way of its jaxpr, with a say in each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Literal, primitives

PyTree = Any
Handler = Callable[[Any, Sequence[Any]], Sequence[Any] | None]


def evaluated(function: Callable, handle: Handler) -> Callable:
    """Return `function`, with `handle(equation, inputs)` asked for the outputs of each equation.

    Where it returns None the equation is evaluated as it stands. Equations inside `jax.jit` are
    seen, those inside loops, branches and custom derivative rules are not.
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


def _evaluate(jaxpr, consts, args, handle):
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if equation.primitive is primitives.jit_p:
            inner = equation.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs, handle)
        else:
            outputs = handle(equation, inputs)
            outputs = bind(equation, inputs) if outputs is None else outputs
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
