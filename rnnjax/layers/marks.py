"""How a layer shows its states to `perturb` and `sow`, so that gradients can be had at each.

A mark is a zero that is added to the state after each step, wherever that state is used: by the
next step, by the output, as the final carry. The gradient with respect to it is the total
derivative dL/ds_{t+1}, through the layer's own recurrence and through everything above it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnnjax.recurrence.sequential import unroll

PERTURBATIONS, INTERMEDIATES = "perturbations", "intermediates"


def watched(module: nn.Module, name: str) -> bool:
    """Return whether someone asks for this module's states: not at `init`, and not by default."""
    if module.is_initializing():
        return False
    asked = module.is_mutable_collection(PERTURBATIONS) or module.is_mutable_collection(
        INTERMEDIATES
    )
    return asked or module.has_variable(PERTURBATIONS, name)


def mark(module: nn.Module, name: str, value: Any) -> Any:
    """Return a value `[*batch, T, ...]` that `perturb` and `sow` know by its name, if asked to."""
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
    """Return `unroll(...)` of an `RNN` whose states after each step are marked, as "carry"."""

    def turned(tree, to_time_major):
        batch_ndim = jax.tree.leaves(xs)[0].ndim - 2
        ends = (batch_ndim, 0) if to_time_major else (0, batch_ndim)
        return tree if time_major else jax.tree.map(lambda a: jnp.moveaxis(a, *ends), tree)

    def run(**more):
        return unroll(module.cell, params, xs, carry, return_carries=True, **options, **more)

    final, _, carries = jax.eval_shape(run)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), carries)
    marks = turned(perturbed(module, "carry", turned(zeros, False)), True)
    backwards = options["reverse"]

    def entering(after):  # the mark after a step enters the next
        nothing = jnp.zeros_like(after[:1])
        parts = [after[1:], nothing] if backwards else [nothing, after[:-1]]
        return jnp.concatenate(parts)

    final, ys, carries = run(perturbations=jax.tree.map(entering, marks))
    module.sow(INTERMEDIATES, "carry", turned(carries, False))
    after = jax.tree.map(jnp.add, carries, marks)
    if ys.shape[0]:
        last = 0 if backwards else -1
        final = jax.tree.map(lambda s, m: s + m[last], final, marks)
    read: Any = module.cell.output(after)
    if (lengths := options["seq_lengths"]) is not None:
        times = jnp.arange(ys.shape[0]).reshape(-1, *(1 for _ in jnp.shape(lengths)))
        read = jnp.where((times < lengths)[..., None], read, 0)
    return final, read.astype(ys.dtype)
