"""The ParaGRU, the ParaLSTM and the sLSTM with exponential forget gates beside `pararnn-torch`."""

import jax
import jax.numpy as jnp
import peer_fixtures
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax.cells import (
    SLSTM,
    GatedParams,
    ParaGRU,
    ParaGRUCarry,
    ParaGRUParams,
    ParaLSTM,
    ParaLSTMCarry,
    ParaLSTMParams,
    SLSTMCarry,
)

H, N = 6, 2
DTYPE = {"features": H, "param_dtype": jnp.float64}


def carries(cell, params, carry, given):
    """Return all carries of our cell, batch-major."""
    xs = given["xs"].swapaxes(0, 1)
    found = rnnjax.unroll(cell, params, xs, carry, return_carries=True)[2]
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), found)


def para_gru(given):
    """There the gates are in the order z, r, n."""

    def ordered(z, r, n):
        return jnp.concatenate([r, z, n])

    weight, bias = (ordered(*jnp.split(given[f"W_x.{key}"], 3)) for key in ("weight", "bias"))
    recurrent = ordered(*(given[f"a_{gate}"] for gate in "zrn"))
    params = ParaGRUParams(weight.T, recurrent, bias)
    return carries(ParaGRU(**DTYPE), params, ParaGRUCarry(given["state/0"]), given).h


def para_lstm(given):
    """There g is z."""
    recurrent = jnp.concatenate([given[f"a_{gate}"] for gate in "fzo"])
    peephole = jnp.concatenate([given["c_f"], given["c_o"]])
    params = ParaLSTMParams(given["W_x.weight"].T, recurrent, given["W_x.bias"], peephole)
    carry = ParaLSTMCarry(*(given[f"state/{i}"] for i in range(2)))
    return jnp.stack(carries(ParaLSTM(**DTYPE), params, carry, given), axis=2)


def slstm(given):
    """There U is `[4, N, H/N, H/N]`."""
    u = given["R_head"].transpose(1, 2, 0, 3).reshape(N, H // N, -1)
    params = GatedParams(given["W_x.weight"].T, u, given["W_x.bias"])
    carry = SLSTMCarry(*(given[f"state/{i}"] for i in range(4)))
    cell = SLSTM(num_heads=N, forget_gate="exponential", **DTYPE)
    return jnp.stack(carries(cell, params, carry, given), axis=2)


CELLS = {"para_gru": para_gru, "para_lstm": para_lstm, "slstm": slstm}


@pytest.mark.parametrize("name", slow_but_for("para_lstm", [*CELLS]))
def test_states_and_gradients_equal_pararnn(name, x64):
    assert max(peer_fixtures.errors("pararnn", name, CELLS[name]).values()) < 1e-12
