"""Numbers of other packages' cells, beside those that ours give with the same weights.

A fixture has the arrays `NAME/given/KEY` of each network: weights by the other package's names,
inputs and states; its `NAME/outputs`; and `NAME/grad/KEY`, the gradients of the sum of all outputs
times `NAME/weighting`. A test writes our outputs as a function of what is given. So the map from
one's weights to the other's stands in the test once, and serves for values and gradients.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles

FIXTURES = Path(__file__).parent / "fixtures"


def errors(fixture, name, ours):
    """Return the relative error of our outputs and of each gradient, by name, in float64.

    Args:
        fixture: the file's name without `.npz`.
        name: the network.
        ours: the function from the given arrays, a dict, to outputs of the other's shape.
    """
    with np.load(FIXTURES / f"{fixture}.npz") as file:
        arrays = {k.removeprefix(f"{name}/"): file[k] for k in file if k.startswith(f"{name}/")}
    under = {
        folder: {k.removeprefix(folder): v for k, v in arrays.items() if k.startswith(folder)}
        for folder in ("given/", "grad/")
    }
    constant = {k: v for k, v in under["given/"].items() if k not in under["grad/"]}
    given = {k: jnp.asarray(under["given/"][k], jnp.float64) for k in under["grad/"]}

    @jax.jit
    def values(given):
        def loss(given):
            outputs = ours(given | constant)
            return jnp.sum(outputs * arrays["weighting"]), outputs

        return jax.grad(loss, has_aux=True)(given)

    grads, outputs = values(given)
    pairs = {key: (grads[key], under["grad/"][key]) for key in grads}
    pairs["outputs"] = outputs, arrays["outputs"]
    assert all(got.dtype == jnp.float64 for got, _ in pairs.values())
    assert all(np.abs(want).max() > 1e-3 for _, want in pairs.values())  # none is trivial
    return {key: float(oracles.relative_error(*pair)) for key, pair in pairs.items()}
