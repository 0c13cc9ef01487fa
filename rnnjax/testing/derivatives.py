"""Do the gradients equal finite differences in float64?"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.recurrence.sequential import unroll
from rnnjax.testing.comparing import CellError, name, weighted_sum
from rnnjax.testing.problems import wide

PyTree = Any


def check_finite_differences(cell: Any, input_size: PyTree, key: Array) -> None:
    """Check the gradient of each parameter, of the inputs and of each leaf of the carry.

        dL(z + h d)/dh at h = 0  =  Re sum(g * d),   g = jax.grad(L)(z)

    along random directions d, for complex arrays a real and an imaginary one: JAX's gradient of a
    real L with respect to z = x + i y is dL/dx - i dL/dy. A cell with surrogate slopes is left out:
    `check_loop` compares its gradients with those of a Python loop.
    """
    if cell.surrogate_gradient:
        return
    with jax.enable_x64(True):
        cell, params, xs, carry = wide(cell, input_size, key)
        arguments = {"params": params, "inputs": xs, "initial carry": carry}

        @jax.jit
        def loss(arguments):
            start = arguments["params"], arguments["inputs"], arguments["initial carry"]
            return weighted_sum(unroll(cell, *start, return_carries=True))

        gradient = jax.grad(loss, allow_int=True)(arguments)
        leaves, structure = jax.tree.flatten(arguments)
        slopes = jax.tree.leaves(gradient)
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arguments)]
        for i, leaf in enumerate(leaves):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                continue
            draw = jax.random.normal(jax.random.fold_in(key, i), leaf.shape, jnp.float64)
            directions = {"a random": draw}
            if jnp.iscomplexobj(leaf):
                directions = {"a random real": draw, "a random imaginary": 1j * draw}
            for kind, direction in directions.items():
                # A step and its half: Richardson's combination cancels the error of second order.
                centred = []
                for size in (1e-4, 5e-5):
                    ahead, behind = (
                        structure.unflatten([*leaves[:i], leaf + s * direction, *leaves[i + 1 :]])
                        for s in (size, -size)
                    )
                    centred.append((loss(ahead) - loss(behind)) / (2 * size))
                expected = float((4 * centred[1] - centred[0]) / 3)
                got = float(jnp.sum(slopes[i] * direction).real)
                if not abs(got - expected) <= 1e-6 * max(1.0, abs(expected)):
                    what, *rest = paths[i]
                    raise CellError(
                        f"The gradient of {name(cell)} with respect to its {what.key}"
                        f"{jax.tree_util.keystr(tuple(rest))} is wrong: {got:.8g} along {kind} "
                        f"direction, where float64 finite differences give {expected:.8g} (a cell "
                        "whose slopes are not derivatives on purpose says so by "
                        "surrogate_gradient = True)."
                    )
