"""Long sequences: an LRU's gradient forward in time is that of back-propagation."""

import jax
import jax.numpy as jnp
import pytest
from oracles import relative_error

import rnnjax
from rnnjax import online
from rnnjax.cells import LRU

T, D, H = 100_000, 3, 5


@pytest.mark.slow
@pytest.mark.parametrize("method", [online.RTRL(), online.SnAp(1)])
def test_a_hundred_thousand_steps_equal_back_propagation(method, x64):
    """States last about 1,000 steps; each step has a loss of its own."""
    cell = LRU(H, r_min=0.998, r_max=0.9999, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), D)
    xs = jax.random.normal(jax.random.key(1), (T, D), jnp.float64)

    def loss(y, t):
        return jnp.sum(jnp.sin(y) * jnp.cos(jnp.arange(y.size) + t))

    def total(params):
        return jnp.sum(jax.vmap(loss)(rnnjax.unroll(cell, params, xs)[1], jnp.arange(T)))

    want = jax.jit(jax.grad(total))(params)
    got = jax.jit(lambda params: online.gradient(method, cell, params, xs, loss)[0])(params)
    assert relative_error(got, want) < 1e-10
