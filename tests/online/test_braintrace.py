"""Gradients forward in time beside the package `braintrace`: a vanilla RNN and a GRU.

`tests/fixtures/make_braintrace.py` says which of its methods has which equations, and why there is
no LSTM.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import peer_fixtures
import pytest
from slow import slow_but_for

from rnnjax import cells, online

GATES = {"rnn": [""], "gru": ["r", "z", "n"]}
SAME = {
    "D_RTRL": online.EProp(),
    "EProp": online.EProp(),
    "OSTLRecurrent": online.SnAp(1),
    "SnAp-1": online.SnAp(1),
    "SnAp-2": online.RTRL(),
}


def made(name, weights):
    """Return our cell and its parameters with weights by braintrace's names."""

    def joined(kind):
        return jnp.concatenate([weights[f"{kind}{gate}"] for gate in GATES[name]], axis=-1)

    three = joined("W"), joined("U"), joined("b")
    features = len(three[2]) // len(GATES[name])
    if name == "gru":
        params = cells.GRUParams(*three, recurrent_bias=weights["c"])
    else:
        params = cells.GatedParams(*three)
    cell = {"rnn": cells.Elman, "gru": cells.GRU}[name]
    return cell(features, param_dtype=jnp.float64), params


@pytest.mark.parametrize("method", SAME)
@pytest.mark.parametrize("name", slow_but_for("gru", list(GATES)))
def test_gradients_are_those_of_braintrace(name, method, x64):
    with np.load(peer_fixtures.FIXTURES / "braintrace.npz") as file:
        arrays = {k.removeprefix(f"{name}/"): file[k] for k in file if k.startswith(f"{name}/")}
    given = {k.removeprefix("given/"): v for k, v in arrays.items() if k.startswith("given/")}
    want = {
        k.removeprefix(f"{method}/"): v for k, v in arrays.items() if k.startswith(f"{method}/")
    }
    xs, weighting = given.pop("xs"), jnp.asarray(arrays["weighting"])
    cell, params = made(name, given)
    run = functools.partial(online.gradient, SAME[method], cell)
    found, _ = jax.jit(lambda params, xs: run(params, xs, lambda y, t: jnp.sum(y * weighting[t])))(
        params, xs
    )
    pull = jax.linear_transpose(lambda weights: made(name, weights)[1], given)
    (got,) = pull(found)
    assert set(got) == set(want)
    for key in want:
        assert np.abs(want[key]).max() > 1e-3
        assert oracles.relative_error(got[key], want[key]) < 1e-12
