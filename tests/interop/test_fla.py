"""Cells with a matrix for a state beside the package `flash-linear-attention`.

There q is divided by sqrt(K). So is the output of our DeltaNet here; our linear attention divides k
instead, so its state is S / sqrt(K).
"""

import jax.numpy as jnp
import peer_fixtures
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax.cells import (
    DeltaNet,
    DeltaNetCarry,
    DeltaNetParams,
    GatedDeltaNet,
    GatedDeltaNetParams,
    LinearAttention,
    LinearAttentionCarry,
    LinearAttentionParams,
)

H, N, KEYS = 6, 2, 5
SIZES = {"num_heads": N, "key_size": KEYS, "param_dtype": jnp.float64}


def delta_net(given):
    """Their S is the transpose of ours; their v passes through phi as in our cell."""
    params = DeltaNetParams(*(given[key] for key in ("q", "k", "v", "beta", "beta_bias")))
    cell = DeltaNet(H, **SIZES)
    if "a_log" in given:
        params = GatedDeltaNetParams(
            *params, *(given[key] for key in ("alpha", "dt_bias", "a_log"))
        )
        cell = GatedDeltaNet(H, **SIZES)
    carry = DeltaNetCarry(given["S"].swapaxes(-1, -2), jnp.zeros((len(given["S"]), N, KEYS)))
    return cell, params, carry, KEYS**-0.5


def attention(given):
    kernel = jnp.concatenate([given[key] for key in "qkv"], axis=-1)
    params = LinearAttentionParams(kernel, *map(given.get, ("decay", "decay_bias", "A_log")))
    decay = "fixed" if "decay" not in given else "scalar" if "A_log" in given else "vector"
    cell = LinearAttention(H, decay=decay, **SIZES)
    carry = cell.initial_carry(given["xs"].shape[:1])
    if "S" in given:
        carry = LinearAttentionCarry(given["S"] * KEYS**-0.5, carry.q)
    return cell, params, carry, 1.0


CELLS = {
    "delta_net": delta_net,
    "gated_delta_net": delta_net,
    "fixed": attention,
    "vector": attention,
    "scalar": attention,
}


@pytest.mark.parametrize("name", slow_but_for("gated_delta_net", [*CELLS]))
def test_outputs_and_gradients_equal_fla(name, x64):
    def ours(given):
        cell, params, carry, scale = CELLS[name](given)
        outputs = scale * rnnjax.unroll(cell, params, given["xs"].swapaxes(0, 1), carry)[1]
        return outputs.reshape(*outputs.shape[:2], N, -1).swapaxes(0, 1)

    assert max(peer_fixtures.errors("fla", name, ours).values()) < 1e-5  # its arithmetic is float32
