"""Heads against SciPy, and what they draw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from layer_parts import KEY, B, T

from rnnjax import layers


@pytest.mark.slow
def test_heads_against_scipy():
    outputs = jax.random.normal(KEY, (B, T, 4))
    labels = jax.random.randint(KEY, (B, T), 0, 4)
    want = -np.log(np.take_along_axis(scipy.special.softmax(outputs, -1), labels[..., None], -1))
    np.testing.assert_allclose(layers.SoftmaxHead.loss(outputs, labels), want[..., 0], rtol=1e-5)
    yes = (outputs > 0.3).astype(jnp.float32)
    want = -scipy.stats.bernoulli.logpmf(yes, scipy.special.expit(outputs)).sum(-1)
    np.testing.assert_allclose(layers.LogisticHead.loss(outputs, yes), want, rtol=1e-4)
    values = outputs[..., 2:]
    mean, log_variance = outputs[..., :2], outputs[..., 2:]
    want = -scipy.stats.norm.logpdf(values, mean, np.exp(log_variance / 2)).sum(-1)
    np.testing.assert_allclose(layers.GaussianHead.loss(outputs, values), want, rtol=1e-4)
    want = np.square(outputs - 1).mean(-1)
    np.testing.assert_allclose(layers.LinearHead.loss(outputs, jnp.ones_like(outputs)), want, 1e-5)


def test_targets_that_are_no_class():
    outputs = jax.random.normal(KEY, (5, 3))
    right = jnp.array([0, 1, 2, 1, 0])
    loss = layers.SoftmaxHead.loss
    for wrong in (-1, -3, -100, 3, 7):
        targets = right.at[2].set(wrong)
        with pytest.raises(ValueError, match=rf"0..K-1 = 0..2, got {wrong}; with ignore_label"):
            loss(outputs, targets)
        with pytest.raises(ValueError, match=f"got {wrong}"):
            loss(outputs, targets, ignore_label=wrong - 50)
        others = np.array([0, 1, 3, 4])
        found = jax.jit(loss)(outputs, targets)
        assert np.isnan(found[2])
        np.testing.assert_array_equal(found[others], jax.jit(loss)(outputs, right)[others])
        ignoring = functools.partial(loss, ignore_label=wrong)
        for run in (ignoring, jax.jit(ignoring)):
            ignored, slope = jax.value_and_grad(lambda o, f=run, t=targets: f(o, t).sum())(outputs)
            np.testing.assert_allclose(ignored, found[others].sum(), rtol=1e-6)
            assert not slope[2].any() and slope[others].all(-1).all()
    assert loss(outputs, right, ignore_label=1)[1] == 0  # a class may be ignored too


@pytest.mark.slow
def test_heads_draw_from_what_they_say():
    one = jnp.array([0.3, -1.0, 0.5, 0.2])
    many = jnp.broadcast_to(one, (40000, 4))
    drawn = layers.SoftmaxHead.sample(many, key=KEY)
    shares = jnp.bincount(drawn, length=4) / len(drawn)
    np.testing.assert_allclose(shares, jax.nn.softmax(one), atol=0.01)
    assert layers.SoftmaxHead.mode(one) == 2
    drawn = layers.LogisticHead.sample(many, key=KEY)
    np.testing.assert_allclose(drawn.mean(0), jax.nn.sigmoid(one), atol=0.01)
    assert np.array_equal(layers.LogisticHead.mode(one), [1, 0, 1, 1])
    drawn = layers.GaussianHead.sample(many, key=KEY)
    np.testing.assert_allclose(drawn.mean(0), one[:2], atol=0.02)
    np.testing.assert_allclose(drawn.std(0), np.exp(one[2:] / 2), rtol=0.02)
    assert np.array_equal(layers.GaussianHead.mode(one), one[:2])
    assert np.array_equal(layers.LinearHead.sample(one, key=KEY), layers.LinearHead.mode(one))


def test_masked_mean():
    losses = jnp.arange(6.0).reshape(2, 3)
    assert layers.masked_mean(losses) == 2.5
    assert layers.masked_mean(losses.at[0, 2].set(jnp.nan), jnp.array([2, 1])) == 4 / 3
    assert layers.masked_mean(losses, jnp.array([0, 0])) == 0
