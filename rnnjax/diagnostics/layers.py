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
    """Return ln of the gradient's norm at each layer, step and example.

        log_norms[t] = ln ||dL/ds_t||,   L = loss(module.apply(variables, *inputs, **options))

    Entry t is about what enters step t, so its lag is k = T - t in every layer (see
    `rnnjax.diagnostics`):

    - "carry" of an `RNN`: s_t, the whole carry that enters step t (the joint norm of its parts).
      For a layer of one cell this is `log_gradient_profile`, entry by entry. A reversed layer
      goes through the steps from the last to the first, and s_t comes from step t + 1.
    - "inputs": x_t, which step t reads. Shown if the first input is floating and `[B, T, ...]`.
    - "block_i" of a `TCN` or `Transformer`, and any other value that a module shows by
      `self.perturb(name, value)`, `[B, T, ...]`: the value at position t, which the next layer
      reads at its step t.

    The derivative is the total one, through the layer's own recurrence and all layers above it. One
    backward pass of plain numbers, scaled so that norms down to 1e-50 come out with all their
    digits (in float32; 1e-445 in float64). Smaller ones are given as -inf, like a gradient that
    is exactly zero. For longer lags use `log_gradient_profile` on a layer's cell.

    Args:
        module: any `flax.linen.Module`.
        variables: of the module; a collection "perturbations" in it is ignored.
        loss: of what the module returns, a scalar. Sum over examples: a mean divides the gradient
            of each by B.
        inputs, options: the arguments of `module.apply`, `rngs` and keyword arguments included.
        outputs_of: types of modules whose outputs `[B, T, ...]` are shown as well, such as
            `(nn.Conv, nn.SelfAttention)`. (For a recurrent layer of another library this misses
            every path through its recurrence.)
        time_major: values are `[T, B, ...]`.

    Returns:
        Natural logs `[T, B]` by the path of the module and the name of the value, such as
        "layers_0/carry", in the order of the computation (`jax.jit` sorts them).

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
    # Below this norm, entries that matter may have been rounded to zero.
    least = (int(narrow.minexp) + int(narrow.nmant)) * np.log(2)
    scale = doublings * np.log(2)
    return {name: jnp.where(log < least, -jnp.inf, log - scale) for name, log in logs.items()}


def _shown(types, calls):
    """Return a context that marks the outputs of modules of these types.

    It adds the path of each module to `calls`, in the order of their first calls.
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
