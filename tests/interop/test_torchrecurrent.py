"""Nonlinear cells beside the package `torchrecurrent`."""

import jax
import jax.numpy as jnp
import peer_fixtures
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax.cells import (
    BRC,
    JANET,
    MGU,
    NBRC,
    AntisymmetricRNN,
    AntisymmetricRNNCarry,
    BRCCarry,
    BRCParams,
    CoRNN,
    CoRNNCarry,
    GatedParams,
    IndRNN,
    IndRNNCarry,
    JANETCarry,
    MGUCarry,
    MGUParams,
)

DTYPE = {"features": 5, "param_dtype": jnp.float64}


def bias_of(given):
    """Their biases meet in their sum."""
    return given["bias_ih"] + given["bias_hh"]


def antisymmetric_rnn(given):
    params = GatedParams(given["weight_ih"].T, given["weight_hh"].T, bias_of(given))
    cell = AntisymmetricRNN(epsilon=0.3, gamma=0.2, **DTYPE)
    return cell, params, AntisymmetricRNNCarry(given["h"])


def brc(given):
    gates, candidate = jnp.split(given["weight_ih"].T, [10], axis=-1)
    params = BRCParams(gates, given["weight_hh"].T, given["bias_hh"], candidate)
    return (
        (BRC if params.recurrent_kernel.ndim == 1 else NBRC)(**DTYPE),
        params,
        BRCCarry(given["h"]),
    )


def co_rnn(given):
    kernel = jnp.concatenate([given["weight_hh"].T, given["weight_ch"].T])
    params = GatedParams(given["weight_ih"].T, kernel, bias_of(given) + given["bias_ch"])
    return (
        CoRNN(dt=0.3, gamma=1.7, epsilon=2.2, **DTYPE),
        params,
        CoRNNCarry(given["h"], given["c"]),
    )


def ind_rnn(given, activation_fn=jax.nn.relu):
    params = GatedParams(given["weight_ih"].T, given["vector_u"], bias_of(given))
    return IndRNN(activation_fn=activation_fn, **DTYPE), params, IndRNNCarry(given["h"])


def ind_rnn_tanh(given):
    return ind_rnn(given, jnp.tanh)


def janet(given):
    params = GatedParams(given["weight_ih"].T, given["weight_hh"].T, bias_of(given))
    return JANET(beta=0.5, **DTYPE), params, JANETCarry(given["h"])


def mgu(given):
    parts = given["weight_ih"].T, given["weight_hh"].T, bias_of(given)
    gate, candidate = zip(*(jnp.split(part, 2, axis=-1) for part in parts), strict=True)
    return MGU(**DTYPE), MGUParams(*gate, *candidate), MGUCarry(given["h"])


CELLS = {
    "antisymmetric_rnn": antisymmetric_rnn,
    "brc": brc,
    "nbrc": brc,
    "co_rnn": co_rnn,
    "ind_rnn": ind_rnn,
    "ind_rnn_tanh": ind_rnn_tanh,
    "janet": janet,
    "mgu": mgu,
}


@pytest.mark.parametrize("name", slow_but_for("brc", [*CELLS]))
def test_outputs_and_gradients_equal_torchrecurrent(name, x64):
    def ours(given):
        cell, params, carry = CELLS[name](given)
        outputs = rnnjax.unroll(cell, params, given["xs"], carry, return_carries=True)
        return jnp.concatenate(outputs[2], axis=-1) if name == "co_rnn" else outputs[1]

    assert max(peer_fixtures.errors("torchrecurrent", name, ours).values()) < 1e-12
