"""How far back CNNs and Transformers look, and the weights of attention."""

import jax
import numpy as np
import pytest
from architectures import D
from layer_parts import KEY, LENGTHS, XS, B, T

from rnnjax.layers import TCN, Transformer


def influence(layer, variables, xs):
    """Return `[T, T]`, whether output t depends on input s, by gradients."""
    slopes = jax.jit(jax.jacobian(lambda xs: layer.apply(variables, xs[None])[0]))(xs)
    return np.abs(np.asarray(slopes)).sum(axis=(1, 3)) > 0


@pytest.mark.slow
def test_the_cnn_sees_its_receptive_field_and_no_more():
    layer = TCN(8, kernel_size=3, num_blocks=2)
    assert layer.receptive_field == 13
    xs = jax.random.normal(KEY, (20, D))
    lag = np.arange(20)[:, None] - np.arange(20)
    got = influence(layer, layer.init(KEY, xs[None]), xs)
    assert np.array_equal(got, (lag >= 0) & (lag < 13))


@pytest.mark.slow
@pytest.mark.parametrize(("window", "reach"), [(1024, 12), (4, 7)])
def test_the_transformer_sees_the_past_in_its_window(window, reach):
    layer = Transformer(4, num_heads=2, window=window)
    xs = jax.random.normal(KEY, (12, D))
    lag = np.arange(12)[:, None] - np.arange(12)
    got = influence(layer, layer.init(KEY, xs[None]), xs)
    assert np.array_equal(got, (lag >= 0) & (lag < reach))


@pytest.mark.slow
def test_the_transformers_attention_weights():
    layer = Transformer(8, num_heads=2, num_layers=1)
    variables = layer.init(KEY, XS)
    options = {"seq_lengths": LENGTHS, "mutable": ["intermediates"]}
    _, state = layer.apply(variables, XS, **options)
    (weights,) = state["intermediates"]["weights_0"]
    assert weights.shape == (B, 2, T, T)
    np.testing.assert_allclose(weights.sum(-1), np.ones((B, 2, T)), rtol=1e-5)
    assert not np.triu(weights, 1).any()
