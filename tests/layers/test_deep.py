"""Networks in one line against the same layers put together by hand."""

import jax
import jax.numpy as jnp
import oracles
import pytest
from architectures import D, H, weighted_sum

from rnnjax import GRU, LSTM, layers
from rnnjax.layers import RNN, Bidirectional, Stack

KEY = jax.random.key(0)
B, T = 3, 5
XS = jax.random.normal(KEY, (B, T, D))
LENGTHS = jnp.array([T, 2, 0])


def everything(layer, variables, **options):
    def loss(params, xs):
        values = layer.apply({"params": params}, xs, seq_lengths=LENGTHS, **options)
        return weighted_sum(values), values

    gradients, values = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], XS)
    return jax.tree.leaves((values, gradients))


def by_hand():
    def both(**options):
        return Bidirectional(RNN(GRU(H), **options), RNN(GRU(H), **options))

    return {
        "bidirectional": (layers.bidirectional(GRU(H)), both()),
        "bidirectional, added": (
            layers.bidirectional(LSTM(H), merge_fn=jnp.add, truncate_every=2),
            Bidirectional(
                RNN(LSTM(H), truncate_every=2), RNN(LSTM(H), truncate_every=2), merge_fn=jnp.add
            ),
        ),
        "one layer": (layers.deep(GRU(H), 1), Stack([RNN(GRU(H))])),
        "three layers": (
            layers.deep(GRU(H), num_layers=3, residual=True),
            Stack([RNN(GRU(H)), RNN(GRU(H)), RNN(GRU(H))], residual=True),
        ),
        "two directions": (
            layers.deep(GRU(H), 2, bidirectional=True, dropout_rate=0.5, unroll=2),
            Stack([both(unroll=2), both(unroll=2)], dropout_rate=0.5),
        ),
        "one mask": (
            layers.deep(GRU(H), 2, dropout_rate=0.5, dropout_broadcast_dims=(-2,)),
            Stack([RNN(GRU(H)), RNN(GRU(H))], dropout_rate=0.5, dropout_broadcast_dims=(-2,)),
        ),
        "directions added": (
            layers.deep(GRU(H), 2, bidirectional=True, merge_fn=jnp.add, residual=True),
            Stack(
                [Bidirectional(RNN(GRU(H)), RNN(GRU(H)), merge_fn=jnp.add) for _ in range(2)],
                residual=True,
            ),
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("which", by_hand())
def test_one_line_is_the_network_built_by_hand(which):
    line, hand = by_hand()[which]
    assert line == hand and hash(line) == hash(hand)
    variables = line.init(KEY, XS)
    assert jax.tree.structure(variables) == jax.tree.structure(hand.init(KEY, XS))
    options = {"return_carry": True, "rngs": {"dropout": KEY}}
    got, want = (everything(layer, variables, **options) for layer in (line, hand))
    assert len(got) == len(want) > 4
    assert oracles.relative_error(got, want) == 0


@pytest.mark.slow
def test_each_layer_and_direction_has_parameters_of_its_own():
    network = layers.deep(LSTM(64), num_layers=3, bidirectional=True, dropout_rate=0.2)
    params = network.init(KEY, XS)["params"]
    assert sorted(params) == ["layers_0", "layers_1", "layers_2"]
    kernels = [
        params[f"layers_{i}"][f"{which}_rnn"]["cell"]["recurrent_kernel"]
        for i in range(3)
        for which in ("forward", "backward")
    ]
    assert all((a != b).any() for i, a in enumerate(kernels) for b in kernels[:i])
    assert network.apply({"params": params}, XS).shape == (B, T, 128)


@pytest.mark.parametrize("num_layers", [0, -1, True])
def test_the_number_of_layers_is_checked(num_layers):
    with pytest.raises(ValueError, match="num_layers must be a positive integer"):
        layers.deep(GRU(H), num_layers)
