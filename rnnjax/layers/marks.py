"""How a layer shows its values to `perturb` and `sow`, so that gradients can be taken at each step.

A mark is a zero added to a value. In a recurrent layer mark t is added to s_t, the carry that
enters step t; in other layers to the value at position t. The gradient with respect to the mark is
the total derivative, through the layer's own recurrence and through everything above it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.recurrence.options import batch_shape, start_carry
from rnnjax.recurrence.sequential import unroll

PERTURBATIONS, INTERMEDIATES = "perturbations", "intermediates"


def watched(module: nn.Module, name: str) -> bool:
    """Return whether the caller requests this module's values; never during `init`."""
    if module.is_initializing():
        return False
    requested = module.is_mutable_collection(PERTURBATIONS) or module.is_mutable_collection(
        INTERMEDIATES
    )
    return requested or module.has_variable(PERTURBATIONS, name)


def mark(module: nn.Module, name: str, value: Any) -> Any:
    """Return `value [*batch, T, ...]`, shown under `name` to `perturb` and `sow` if requested."""
    if not watched(module, name):
        return value
    module.sow(INTERMEDIATES, name, value)
    return perturbed(module, name, value)


def perturbed(module: nn.Module, name: str, value: Any) -> Any:
    """Return `module.perturb(name, value)`, or the value where there is no such variable."""
    if module.is_mutable_collection(PERTURBATIONS) or module.has_variable(PERTURBATIONS, name):
        return module.perturb(name, value)
    return value


def marked(module: Any, params: Any, xs: Any, carry: Any, options: dict, time_major: bool) -> Any:
    """Return `unroll(...)` of an `RNN` whose carries entering each step are marked, as "carry"."""
    batch = batch_shape(module.cell, xs)
    carry = start_carry(module.cell, carry, batch, "initial_carry")

    def turned(tree, to_time_major):
        ends = (len(batch), 0) if to_time_major else (0, len(batch))
        return tree if time_major else jax.tree.map(lambda a: jnp.moveaxis(a, *ends), tree)

    def run(**more):
        return unroll(module.cell, params, xs, carry, return_carries=True, **options, **more)

    _, _, shapes = jax.eval_shape(run)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    leaves, structure = jax.tree.flatten(turned(zeros, False))
    # Flax would read the keys of a dictionary as names of variables.
    shown = tuple(leaves) if isinstance(zeros, dict) else structure.unflatten(leaves)
    marks = jax.tree.leaves(perturbed(module, "carry", shown))
    marks = turned(structure.unflatten(marks), True)
    final, ys, after = run(perturbations=marks)

    def entering(first, after):
        first = first[None].astype(after.dtype)
        parts = [after[1:], first] if options["reverse"] else [first, after[:-1]]
        return jnp.concatenate(parts)[: after.shape[0]]

    module.sow(INTERMEDIATES, "carry", turned(jax.tree.map(entering, carry, after), False))
    return final, ys
