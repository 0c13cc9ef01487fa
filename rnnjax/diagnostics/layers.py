"""Gradients at each layer of a whole model: any Flax module, through `perturb`."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.recurrence.carries import norm
from rnnjax.recurrence.options import known

PyTree = Any
INPUTS = "inputs"


def log_gradient_by_layer(
    module: Any,
    variables: PyTree,
    loss: Callable[[Any], Array],
    *inputs: Any,
    outputs_of: tuple[type, ...] = (),
    time_major: bool = False,
    **options: Any,
) -> dict[str, Float[Array, "T B"]]:
    """Return ln ||dL/ds_t||, s_t the state after step t, for each layer, step and example.

    The total derivative, through the layer's own recurrence and all that stands above it, for
    L = loss(module.apply(variables, *inputs, **options)). The layers of `rnnjax.layers` and
    `rnnjax.models` show their states: an `RNN` its whole carry after each step (the joint norm of
    its parts), `TCN` and `Transformer` the outputs of each block, at each position. So does
    any module that calls `self.perturb(name, value)` on a value `[B, T, ...]`. First among the
    results is "inputs", the gradient with respect to the first input, if that is floating and
    `[B, T, ...]`.

    One backward pass of plain numbers, scaled so that norms down to 1e-50 come out with all their
    digits (in float32; 1e-445 in float64). What is smaller is given as -inf, like a gradient that
    is exactly zero. For longer lags use `log_gradient_profile` on a layer's cell.

    Args:
        module: any `flax.linen.Module`.
        variables: of the module; a collection "perturbations" in it is ignored.
        loss: of what the module returns, a scalar. Let it be a sum over examples: in a mean each
            has a B-th of its own gradient.
        inputs, options: what `module.apply` takes, `rngs` and keyword arguments included.
        outputs_of: types of modules whose outputs `[B, T, ...]` are shown as well, such as
            `(nn.Conv, nn.SelfAttention)`. (For a recurrent layer of another library that would
            leave out every path through its recurrence.)
        time_major: values are `[T, B, ...]`.

    Returns:
        By the path of the module and the name of the value, such as "layers_0/carry", in the order
        in which they are computed (`jax.jit` sorts them): natural logs `[T, B]`, entry t about
        step t, whose lag to the last step is T - 1 - t.

    Raises:
        ValueError: no layer shows anything, a value has no axes for batch and time, or the loss is
            no scalar.
        FloatingPointError: a gradient is not finite.

    Source of the definition: Werbos 1990, "Backpropagation through time", equation 12.
    """
    from flax.traverse_util import flatten_dict

    variables = {name: tree for name, tree in variables.items() if name != "perturbations"}
    names: list[str] = []
    calls: dict[tuple[str, ...], int] = {}

    def apply(first, marks, **mutable):
        collections = variables if marks is None else {**variables, "perturbations": marks}
        with _shown(outputs_of, calls):
            return module.apply(collections, *first, *inputs[len(first) :], **options, **mutable)

    def find():
        _, state = apply((), None, mutable=["perturbations"])
        found = state.get("perturbations", {})
        names.extend(sorted(flatten_dict(found, sep="/"), key=lambda name: _order(name, calls)))
        return found

    shapes = jax.eval_shape(find)
    if not names:
        raise ValueError(f"no layer of {type(module).__name__} calls perturb; see outputs_of")
    first = tuple(map(jnp.asarray, inputs[:1]))
    first = first if first and _floating(first[0]) and first[0].ndim > 2 else ()
    marks = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    value, pull_back = jax.vjp(lambda first, marks: loss(apply(first, marks)), first, marks)
    if jnp.shape(value) != ():
        raise ValueError(f"loss must return a scalar, got shape {jnp.shape(value)}")
    floats = [a for a in jax.tree.leaves((first, marks)) if _floating(a)]
    # Half of the exponents for what grows, half for what shrinks.
    narrow = min((jnp.finfo(a.dtype) for a in [*floats, value]), key=lambda info: info.maxexp)
    doublings = int(narrow.maxexp) // 2
    of_first, of_marks = pull_back(jnp.asarray(2.0**doublings, value.dtype))
    found = {INPUTS: of_first} if first else {}
    found |= {name: flatten_dict(of_marks, sep="/")[name] for name in names}
    logs = {name: _log_norm(name, g, time_major) for name, g in found.items()}
    # Below this, entries may have been rounded to zero that count.
    least = (int(narrow.minexp) + int(narrow.nmant)) * np.log(2)
    scale = doublings * np.log(2)
    return {name: jnp.where(log < least, -jnp.inf, log - scale) for name, log in logs.items()}


def _shown(types, calls):
    """Return a context in which the outputs of modules of these types are marked.

    Modules are put into `calls` by their paths, in the order in which they are first called.
    """
    import flax.linen as nn

    def intercept(call, args, kwargs, context):
        calls.setdefault(context.module.path, len(calls))
        result = call(*args, **kwargs)
        if context.method_name != "__call__" or not isinstance(context.module, types):
            return result
        return context.module.perturb("output", result)

    return nn.intercept_methods(intercept)


def _order(name, calls):
    """Return a key that sorts names by the call of their module, then numbers as numbers."""
    *module, value = name.split("/")
    pieces = re.split(r"(\d+)", value)
    return calls.get(tuple(module), len(calls)), [(p.isdigit() and int(p), p) for p in pieces]


def _log_norm(name, gradient, time_major):
    leaves = [g for g in jax.tree.leaves(gradient) if _floating(g)]
    if not leaves or min(g.ndim for g in leaves) < 2:
        raise ValueError(
            f"{name} needs axes for batch and time, got {jax.tree.map(jnp.shape, leaves)}"
        )
    wide = [g.astype(jnp.promote_types(g.dtype, jnp.float32)) for g in leaves]
    logs = jnp.log(norm(wide, 2))
    values = known(logs)
    if values is not None and not (values < np.inf).all():  # NaN is not, either
        raise FloatingPointError(f"the gradient at {name} is not finite")
    return logs if time_major else logs.T


def _floating(a):
    return jnp.issubdtype(a.dtype, jnp.inexact)
