"""Embeddings drawn, pretrained and frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import D, V
from layer_parts import KEY

from rnnjax import layers


@pytest.mark.slow
def test_embeddings_drawn_pretrained_and_frozen():
    tokens = jnp.array([[1, 2, 5], [0, 0, 3]])
    table = jax.random.normal(KEY, (V, D))
    for frozen in (False, True):
        layer = layers.Embed(V, D, layers.pretrained(table), frozen=frozen)
        variables = layer.init(KEY, tokens)
        assert list(variables) == (["constants"] if frozen else ["params"])
        got = layer.apply(variables, tokens, seq_lengths=jnp.array([3, 2]))
        assert np.array_equal(got[0], table[tokens[0]])
        assert not got[1, 2].any()
        logits = layer.apply(variables, got, method="attend")
        np.testing.assert_allclose(logits, got @ table.T, rtol=1e-6)
        slope = jax.grad(lambda v, m=layer: m.apply(v, tokens).sum())(variables)
        counts = jnp.bincount(tokens.ravel(), length=V)[:, None] * jnp.ones(D)
        assert np.array_equal(jax.tree.leaves(slope)[0], counts * (not frozen))
    drawn = layers.Embed(V, D).init(KEY, tokens)["params"]["embedding"]
    assert drawn.shape == (V, D) and 0.2 < float(drawn.std()) < 1
    traced = jax.jit(lambda t: layers.Embed(V, D).apply({"params": {"embedding": table}}, t))
    assert np.isnan(traced(jnp.array([V, -1]))).all()
