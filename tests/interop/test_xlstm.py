"""The sLSTM and the mLSTM beside the authors' package, `xlstm`."""

import jax.numpy as jnp
import peer_fixtures
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax.cells import MLSTM, SLSTM, GatedParams, MLSTMCarry, MLSTMParams, SLSTMCarry

H, N, KEYS, CAP = 6, 2, 5, 2.0
DTYPE = {"param_dtype": jnp.float64}


def by_head(outputs):
    """Return `[B, N, T, H/N]` from `[T, B, H]`."""
    return outputs.reshape(*outputs.shape[:2], N, -1).transpose(1, 2, 0, 3)


def slstm(given):
    """There U is `[N, 4 H/N, H/N]` and transposed; the bias has its gates outside its heads."""
    u = given["_recurrent_kernel_"].swapaxes(1, 2)
    params = GatedParams(given["kernel"], u, given["_bias_"])
    carry = SLSTMCarry(*(given[key] for key in "cnmh")) if "m" in given else None
    cell = SLSTM(features=H, num_heads=N, **DTYPE)
    return by_head(rnnjax.unroll(cell, params, given["xs"].swapaxes(0, 1), carry)[1])


def mlstm(given):
    """There C and n are divided by exp(m); ours begin as C exp(m) and n exp(m)."""

    def beside(*keys):
        return (
            jnp.concatenate([given[f"{key}/weight"].T for key in keys], axis=-1),
            jnp.concatenate([given[f"{key}/bias"] for key in keys]),
        )

    params = MLSTMParams(*beside(*"qkvo"), *beside(*"if"))
    soft_cap = CAP if "m" in given else None
    cell = MLSTM(H, num_heads=N, key_size=KEYS, soft_cap=soft_cap, **DTYPE)
    carry = cell.initial_carry(given["xs"].shape[:1])
    if "m" in given:
        C, n = (jnp.exp(given["m"]) * given[key] for key in "Cn")
        carry = MLSTMCarry(C, n[..., 0], carry.q, carry.o)
    return by_head(rnnjax.unroll(cell, params, given["xs"].swapaxes(0, 1), carry)[1])


NETWORKS = {"slstm": slstm, "slstm_zeros": slstm, "mlstm": mlstm, "mlstm_steps": mlstm}


@pytest.mark.parametrize("name", slow_but_for(["slstm", "mlstm_steps"], [*NETWORKS]))
def test_outputs_and_gradients_equal_xlstm(name, x64):
    ours = NETWORKS[name]
    assert max(peer_fixtures.errors("xlstm", name, ours).values()) < 1e-12
