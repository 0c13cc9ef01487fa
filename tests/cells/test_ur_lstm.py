"""The UR-LSTM: its equations in NumPy, the range of its refined gate, and the biases it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import URLSTM, GatedParams, URLSTMCarry
from rnnjax.cells.initializers import Chrono, UniformGate
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def drawn():
    """Parameters of random entries, inputs and a carry, in NumPy."""
    rng = np.random.default_rng(0)
    params = GatedParams(*(rng.normal(size=shape) for shape in ((D, 4 * H), (H, 4 * H), 4 * H)))
    return params, rng.normal(size=(T, B, D)), URLSTMCarry(*rng.normal(size=(2, B, H)))


def test_values_are_those_of_the_papers_equations(x64):
    params, xs, (c, h) = drawn()
    ws, us, bs = (np.split(p.T, 4) for p in params)
    cell = URLSTM(H, param_dtype=jnp.float64)
    start = URLSTMCarry(jnp.asarray(c), jnp.asarray(h))
    final, hs = rnnjax.unroll(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), start)
    for x, got in zip(xs, hs, strict=True):
        for n in range(B):
            parts = (w @ x[n] + u @ h[n] + b for w, u, b in zip(ws, us, bs, strict=True))
            f, r, candidate, o = parts
            f, r, o = sigmoid(f), sigmoid(r), sigmoid(o)
            g = r * (1 - (1 - f) ** 2) + (1 - r) * f**2
            c[n] = g * c[n] + (1 - g) * np.tanh(candidate)
            h[n] = o * np.tanh(c[n])
        np.testing.assert_allclose(got, h, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(final.c, c, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_refine_gate_squares_the_time_scale(x64):
    """With weights of zero d c_T / d c_{T-k} = g^k, and 1 - g is in (1 - f)^2 .. 1 - f^2."""
    cell = URLSTM(3, param_dtype=jnp.float64)
    f = np.array([0.99, 0.99, 0.3])
    r = np.array([1 - 1e-12, 1e-12, 0.4])
    bias = np.concatenate([np.log(f / (1 - f)), np.log(r / (1 - r)), np.zeros(6)])
    params = GatedParams(jnp.zeros((D, 12)), jnp.zeros((3, 12)), jnp.asarray(bias))
    xs, carry = jnp.ones((T, D)), URLSTMCarry(jnp.full(3, 0.2), jnp.zeros(3))
    found = diagnostics.gates(cell, params, xs, carry)
    want = [1 - 0.01**2, 0.99**2, 0.4 * (1 - 0.7**2) + 0.6 * 0.3**2]
    np.testing.assert_allclose(found["g"], [want] * T, rtol=1e-10)
    np.testing.assert_allclose(found["f"], [f] * T, rtol=1e-12)

    def last(c):
        return rnnjax.unroll(cell, params, xs, carry._replace(c=c))[0].c

    np.testing.assert_allclose(jax.jacobian(last)(carry.c), np.diag(np.power(want, T)), rtol=1e-9)


@pytest.mark.slow
def test_what_is_written_keeps_its_digits_where_the_gate_is_almost_closed():
    """1 - g = (1 - f)^2 = 1e-6 here; from the rounded g it would be off by several percent."""
    params = GatedParams(jnp.zeros((1, 4)), jnp.zeros((1, 4)), jnp.array([6.90675478, 30, 9, 0.0]))
    cell = URLSTM(1)
    c = rnnjax.unroll(cell, params, jnp.zeros((1, 1)))[0].c
    np.testing.assert_allclose(c, 1e-6, rtol=1e-3)


@pytest.mark.slow
def test_forget_gates_begin_uniformly_distributed(x64):
    cell = URLSTM(60, param_dtype=jnp.float64)
    params = cell.init(KEY, 1)
    assert [leaf.shape for leaf in params] == [(1, 240), (60, 240), (240,)]
    f, r, n, o = np.split(params.bias, 4)
    np.testing.assert_array_equal(r, -f)
    np.testing.assert_array_equal(np.concatenate([n, o]), 0)
    u = np.sort(sigmoid(UniformGate()(KEY, (4000,))))
    assert np.abs(u - (np.arange(4000) + 0.5) / 4000).max() < 0.03
    assert u.min() >= 1 / 4000 - 1e-6 and u.max() <= 1 - 1 / 4000 + 1e-6
    u = sigmoid(f)
    assert u.min() >= 1 / 60 and u.max() <= 1 - 1 / 60 and u.max() - u.min() > 0.8
    np.testing.assert_array_equal(UniformGate()(KEY, (1,)), 0)
    np.testing.assert_array_equal(UniformGate()(KEY, (2,)), 0)


@pytest.mark.slow
def test_other_forget_biases():
    bias = URLSTM(H, forget_bias=2.0).init(KEY, D).bias
    np.testing.assert_array_equal(bias, np.repeat([2.0, -2.0, 0, 0], H))
    f, r, *_ = np.split(URLSTM(H, forget_bias=Chrono(9.0)).init(KEY, D).bias, 4)
    assert (f > 0).all()
    np.testing.assert_array_equal(r, -f)
    assert URLSTM(H, forget_bias=2.0).without_initialisers() == URLSTM(H)
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        URLSTM(0)


@pytest.mark.slow
def test_it_takes_the_fast_path():
    cell = URLSTM(H)
    assert served(cell, cell.init(KEY, D), cell.initial_carry((B,)), jnp.zeros((T, B, D)))


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(URLSTM(H), D)
