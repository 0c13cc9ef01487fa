"""Dropout, zoneout and layer norm in layers: rates, masks, and when there are none."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from architectures import D, H
from layer_parts import KEY, XS, T

from rnnjax import GRU, LSTM, Elman, cells
from rnnjax.cells import LayerNorm, LSTMCarry, VariationalDropout, Zoneout
from rnnjax.layers import RNN, Stack
from rnnjax.testing import check_cell


@pytest.mark.slow
def test_no_stream_no_noise():
    layer = Stack([RNN(Zoneout(GRU(H), 0.5)), RNN(VariationalDropout(LSTM(H), 0.5))])
    layer = layer.clone(dropout_rate=0.5)
    variables = layer.init(KEY, XS)
    quiet = layer.apply(variables, XS)
    streams = {"dropout": KEY}
    assert np.array_equal(layer.apply(variables, XS, deterministic=True, rngs=streams), quiet)
    noisy = layer.apply(variables, XS, rngs=streams)
    assert np.array_equal(noisy, layer.apply(variables, XS, rngs=streams))
    assert oracles.relative_error(noisy, quiet) > 0.01
    other = layer.apply(variables, XS, rngs={"dropout": jax.random.key(1)})
    assert oracles.relative_error(noisy, other) > 0.01


@pytest.mark.slow
def test_dropout_between_layers_keeps_one_mask_over_time_if_asked():
    xs = jnp.ones((50, T, D))
    identity = Elman(H, activation_fn=cells.identity)
    params = identity.init(KEY, D)
    zero = params._replace(recurrent_kernel=jnp.zeros((H, H)), bias=jnp.zeros(H))
    second = zero._replace(input_kernel=jnp.eye(H))
    for dims in ((), (-2,)):
        layer = Stack(
            [RNN(identity), RNN(identity)], dropout_rate=0.25, dropout_broadcast_dims=dims
        )
        weights = {
            "params": {"layers_0": {"cell": zero._asdict()}, "layers_1": {"cell": second._asdict()}}
        }
        ratio = layer.apply(weights, xs, rngs={"dropout": KEY}) / layer.apply(weights, xs)
        dropped = np.asarray(ratio == 0)
        assert np.allclose(ratio[~dropped], 1 / 0.75, rtol=1e-5)
        assert abs(dropped.mean() - 0.25) < 0.05
        assert (dropped == dropped[:, :1]).all() == (dims == (-2,))


@pytest.mark.slow
def test_variational_dropout_drops_recurrent_connections_for_good():
    """With the identity for U and no gates, h sums up what it kept: a power of the mask."""
    rate = 0.25
    cell = Elman(H, activation_fn=cells.identity)
    params = cells.GatedParams(jnp.ones((1, H)), jnp.eye(H), jnp.zeros(H))
    xs = jnp.zeros((200, T, 1)).at[:, 0].set(1.0)
    layer = RNN(VariationalDropout(cell, rate))
    ys = layer.apply({"params": {"cell": params._asdict()}}, xs, rngs={"dropout": KEY})
    kept = np.asarray(ys[:, 1] != 0)
    assert abs(kept.mean() - 0.75) < 0.05
    want = np.where(kept[:, None], (1 / 0.75) ** np.arange(T)[:, None], np.arange(T)[:, None] == 0)
    np.testing.assert_allclose(ys, want, rtol=1e-5)
    quiet = layer.apply({"params": {"cell": params._asdict()}}, xs)
    assert oracles.relative_error(quiet, jnp.ones_like(quiet)) < 1e-6


@pytest.mark.slow
def test_zoneout_keeps_units_at_its_rate():
    """Of a carry that always moves, what stands still was kept; its mean is what is evaluated."""
    rates = LSTMCarry(c=0.5, h=0.05)
    cell, xs = LSTM(16), jax.random.normal(KEY, (40, 64, D))
    layer = RNN(Zoneout(cell, rates))
    variables = layer.init(KEY, xs)
    options = {"mutable": ["intermediates"], "rngs": {"dropout": KEY}}
    _, state = layer.apply(variables, xs, **options)
    carries = state["intermediates"]["carry"][0]
    for name, rate in rates._asdict().items():
        values = np.asarray(getattr(carries, name))
        still = values[:, 1:] == values[:, :-1]
        assert abs(still.mean() - rate) < 0.01
    # One step from a given state, averaged over masks, is the step without noise.
    many = jnp.broadcast_to(xs[:1, :1], (20000, 1, D))
    start = LSTMCarry(jnp.full((20000, 16), 0.3), jnp.full((20000, 16), -0.2))
    drawn, _ = layer.apply(
        variables, many, initial_carry=start, return_carry=True, rngs={"dropout": KEY}
    )
    mean, _ = layer.apply(variables, many, initial_carry=start, return_carry=True)
    for a, b in zip(drawn, mean, strict=True):
        assert np.all(np.abs(a.mean(0) - b[0]) <= 5 * np.std(a, 0) / len(a) ** 0.5)


@pytest.mark.slow
def test_layer_norm_by_hand(x64):
    cell = LSTM(H, param_dtype=jnp.float64)
    params = LayerNorm(cell).init(KEY, D)
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(KEY, p.shape), params)
    x, h = np.asarray(XS[0, 0], float), np.linspace(-1, 1, H)
    carry = LSTMCarry(jnp.asarray(h / 2), jnp.asarray(h))

    def normalised(a):
        return (a - a.mean()) / np.sqrt(a.var() + 1e-5)

    w = normalised(x @ params.cell.input_kernel) * params.input_scale + params.cell.bias
    v = normalised(h @ params.cell.recurrent_kernel) * params.recurrent_scale
    i, f, g, o = np.split(np.asarray(w + v), 4)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    c = sigmoid(f) * h / 2 + sigmoid(i) * np.tanh(g)
    normal = LayerNorm(cell)
    got = normal.step(params, carry, normal.project(params, jnp.asarray(x)))
    np.testing.assert_allclose(got.c, c, rtol=1e-12)
    np.testing.assert_allclose(got.h, sigmoid(o) * np.tanh(c), rtol=1e-12)


@pytest.mark.slow
def test_wrapped_cells_keep_the_promises_of_cells():
    check_cell(Zoneout(VariationalDropout(LayerNorm(GRU(4)), 0.3), 0.1), 3)
