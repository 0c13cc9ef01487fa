"""Problems for the tests of linear cells, drawn by NumPy: JAX would compile every draw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

T, B, D = 7, 2, 3


def problem(cell, scale=0.5):
    """Return the cell in float64, random parameters and inputs `[T, B, D]`, and a random carry.

    Call it with 64-bit types enabled.
    """
    rng = np.random.default_rng(0)

    def drawn(shape, size):
        values = rng.normal(size=shape.shape)
        if jnp.issubdtype(shape.dtype, jnp.complexfloating):
            values = values + 1j * rng.normal(size=shape.shape)
        return jnp.asarray(size * values)

    cell = dataclasses.replace(cell, param_dtype=jnp.float64)
    params, carry = jax.eval_shape(
        lambda: (cell.init(jax.random.key(0), D), cell.initial_carry((B,)))
    )
    params = jax.tree.map(lambda s: drawn(s, scale), params)
    xs = jnp.asarray(rng.normal(size=(T, B, D)))
    return cell, params, xs, jax.tree.map(lambda s: drawn(s, 0.3), carry)
