"""The carry keeps its type, whatever the types of inputs and parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from own_cells import CoRNN
from slow import in_turn, slow_but_for

from rnnjax import GRU, LSTM, Elman, layers, unroll
from rnnjax.cells import LayerNorm, Zoneout

KEY = jax.random.key(0)
CELLS = {
    "elman": lambda **o: Elman(4, **o),
    "lstm": lambda **o: LSTM(4, **o),
    "gru": lambda **o: GRU(4, **o),
    "cornn": lambda **o: CoRNN(4, **o),
    "normed": lambda **o: LayerNorm(LSTM(4, **o)),
    "zoneout": lambda **o: Zoneout(GRU(4, **o), rate=0.3),
}
TYPES = {  # of parameters and inputs
    "narrow parameters": (jnp.bfloat16, jnp.float32),
    "wide inputs": (jnp.float32, jnp.float64),
    "narrow inputs": (jnp.float32, jnp.bfloat16),
}


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize(("name", "types"), in_turn(CELLS.keys(), TYPES))
def test_a_scan_may_carry_it(name, types, x64):
    of_params, of_inputs = types
    cell = CELLS[name](param_dtype=of_params)
    params = cell.init(KEY, 3)
    xs = jax.random.normal(KEY, (7, 2, 3)).astype(of_inputs)
    start = cell.initial_carry((2,))

    def by_steps(params):
        ready = cell.prepare(params)

        def step(carry, x):
            carry = cell.step(ready, carry, cell.project(ready, x))
            return carry, cell.output(carry)

        return lax.scan(step, start, xs)

    (last, want), (final, got) = by_steps(params), unroll(cell, params, xs)
    assert dtypes(last) == dtypes(final) == dtypes(start) == {jnp.dtype(of_params)}
    tolerance = 0.05 if jnp.bfloat16 in (of_params, of_inputs) else 1e-5
    np.testing.assert_allclose(*(np.asarray(a, float) for a in (got, want)), atol=tolerance)

    def loss(run):
        return lambda p: (run(p)[1].astype(float) ** 2).sum()

    slopes = [jax.grad(loss(run))(params) for run in (by_steps, lambda p: unroll(cell, p, xs))]
    for one, other in zip(*map(jax.tree.leaves, slopes), strict=True):
        one, other = (np.asarray(a, float) for a in (one, other))
        np.testing.assert_allclose(one, other, atol=tolerance * max(1, abs(one).max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("zoneout", CELLS.keys()))
def test_a_layer_returns_the_carry_that_it_takes(name, x64):
    layer = layers.RNN(CELLS[name]())
    xs = jax.random.normal(KEY, (5, 2, 7, 3))  # five stretches of a stream
    assert xs.dtype == jnp.float64
    variables = layer.init(KEY, xs[0].astype(jnp.float32))

    def apply(carry, stretch):
        return layer.apply(variables, stretch, initial_carry=carry, return_carry=True)

    start = layer.cell.initial_carry((2,))
    carry, outputs = lax.scan(apply, start, xs)
    assert dtypes(carry) == {jnp.dtype(jnp.float32)}
    whole = layer.apply(variables, xs.swapaxes(0, 1).reshape(2, 35, 3))
    np.testing.assert_allclose(outputs.swapaxes(0, 1).reshape(whole.shape), whole, atol=1e-5)


def test_wider_parameters_widen_the_carry_of_unroll_alone(x64):
    """So float64 copies of parameters give float64 results."""
    cell = LSTM(4)
    params = jax.tree.map(lambda a: a.astype(jnp.float64), cell.init(KEY, 3))
    xs = jnp.ones((5, 2, 3))
    final, outputs = unroll(cell, params, xs)
    assert dtypes((final, outputs)) == {jnp.dtype(jnp.float64)}
