"""The RG-LRU beside the authors' package, `recurrentgemma`."""

import jax.numpy as jnp
import peer_fixtures

import rnnjax
from rnnjax.cells import RGLRU, RGLRUCarry, RGLRUParams


def test_outputs_and_gradients_equal_recurrentgemma(x64):
    """There the layer has no projection of the inputs, and each gate has its own blocks."""

    def ours(given):
        gates = "a_gate", "input_gate"
        kernel = jnp.concatenate([given[f"{gate}/w"] for gate in gates], axis=-1)
        bias = jnp.concatenate([given[f"{gate}/b"].ravel() for gate in gates])
        size = given["a_param"].size
        params = RGLRUParams(jnp.eye(size), kernel, bias, given["a_param"])
        cell = RGLRU(size, num_heads=len(kernel), param_dtype=jnp.float64)
        xs = given["xs"].swapaxes(0, 1)
        return rnnjax.unroll(cell, params, xs, RGLRUCarry(given["h"]))[1].swapaxes(0, 1)

    errors = peer_fixtures.errors("recurrentgemma", "rg_lru", ours)
    assert max(errors.values()) < 1e-5  # its arithmetic is float32
