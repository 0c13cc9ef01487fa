"""Do the gradients equal finite differences in float64?"""

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.testing.comparing import CellError, name, named_gradients, weighted_sum
from rnnjax.testing.problems import Problem, generator, normal, on_host

ARGUMENTS = "params", "inputs", "initial carry"
DIRECTIONS = 3  # its random numbers are not those of the problem


def check_finite_differences(problem: Problem) -> None:
    """Check the gradient of each parameter, of the inputs and of each leaf of the carry.

        dL(z + h d)/dh at h = 0  =  Re sum(g * d),   g = jax.grad(L)(z)

    along random directions d, for complex arrays a real and an imaginary one: JAX's gradient of a
    real L with respect to z = x + i y is dL/dx - i dL/dy. A cell with surrogate slopes is left out:
    `check_loop` compares its gradients with those of a Python loop.
    """
    if problem.cell.surrogate_gradient:
        return
    with jax.enable_x64(True):
        cell, *start = problem.wide
        start = on_host(start)
        run, draw = problem.program(), generator(problem.key, DIRECTIONS)
        results = on_host(run(*start, {}))
        gradients = [results.pop(what) for what in named_gradients((*start,))]

        def loss(arguments):
            moved = run(*(arguments[what] for what in ARGUMENTS), {})
            return weighted_sum(on_host({what: moved[what] for what in results}))

        arguments = dict(zip(ARGUMENTS, start, strict=True))
        slopes = jax.tree.leaves(dict(zip(ARGUMENTS, gradients, strict=True)))
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arguments)]
        leaves, structure = jax.tree.flatten(arguments)
        for i, leaf in enumerate(leaves):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                continue
            drawn = normal(draw, leaf.shape, np.float64)
            directions = {"a random": drawn}
            if jnp.iscomplexobj(leaf):
                directions = {"a random real": drawn, "a random imaginary": 1j * drawn}
            for kind, direction in directions.items():
                # A step and its half: Richardson's combination cancels the error of second order.
                centred = []
                for size in (1e-4, 5e-5):
                    ahead, behind = (
                        structure.unflatten([*leaves[:i], leaf + s * direction, *leaves[i + 1 :]])
                        for s in (size, -size)
                    )
                    centred.append((loss(ahead) - loss(behind)) / (2 * size))
                expected = (4 * centred[1] - centred[0]) / 3
                got = float(np.sum(slopes[i] * direction).real)
                if not abs(got - expected) <= 1e-6 * max(1.0, abs(expected)):
                    what, *rest = paths[i]
                    raise CellError(
                        f"The gradient of {name(cell)} with respect to its {what.key}"
                        f"{jax.tree_util.keystr(tuple(rest))} is wrong: {got:.8g} along {kind} "
                        f"direction, where float64 finite differences give {expected:.8g} (a cell "
                        "whose slopes are not derivatives on purpose says so by "
                        "surrogate_gradient = True)."
                    )
