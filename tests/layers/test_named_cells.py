"""Every cell that has a name, in the layers that take a cell."""

import jax
import jax.numpy as jnp
import oracles
import pytest
from slow import slow_but_for

from rnnjax import layers, networks
from rnnjax.layers import RNN

B, T, H = 2, 4, 4  # as many inputs as outputs, so that layers share compiled programs
KEY = jax.random.key(0)
XS = jax.random.normal(KEY, (B, T, H))


@pytest.mark.parametrize(
    "name", slow_but_for(["elman", "lru", "mlstm"], networks.NAMED_CELLS.keys())
)
def test_every_layer_runs_it_and_step_by_step_equals_the_whole_sequence(name):
    """In one layer, in two directions, and in two layers, which are compositions of the first."""
    cell = networks.make_cell(name, H)

    def alone(params, xs, carry=None):
        return RNN(cell).apply({"params": params}, xs, initial_carry=carry, return_carry=True)

    def stepwise(layer, variables):
        carry, ys = layer.start_carry((B,)), []
        for t in range(T):
            now = XS[:, t : t + 1]
            carry, y = layer.apply(variables, now, initial_carry=carry, return_carry=True)
            ys.append(y)
        return carry, jnp.concatenate(ys, axis=1)

    one, two = RNN(cell), layers.deep(cell, num_layers=2)
    variables = one.init(KEY, XS)
    whole = alone(variables["params"], XS)
    assert oracles.relative_error(stepwise(one, variables), whole) < 1e-5

    variables = two.init(KEY, XS)
    first, ys = alone(variables["params"]["layers_0"], XS)
    second, ys = alone(variables["params"]["layers_1"], ys)
    whole = two.apply(variables, XS, return_carry=True)
    assert oracles.relative_error(whole, ((first, second), ys)) < 1e-5
    assert oracles.relative_error(stepwise(two, variables), whole) < 1e-5

    both = layers.bidirectional(cell, merge_fn=jnp.subtract)
    variables = both.init(KEY, XS)
    forward, ahead = alone(variables["params"]["forward_rnn"], XS)
    backward, behind = alone(variables["params"]["backward_rnn"], XS[:, ::-1])
    whole = both.apply(variables, XS, return_carry=True)
    assert oracles.relative_error(whole, ((forward, backward), ahead - behind[:, ::-1])) < 1e-5
