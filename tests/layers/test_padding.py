"""Padding never changes a valid output or a gradient, in any layer and in any model."""

import functools

import architectures
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from architectures import D, V
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnjax import layers, models

KEY = jax.random.key(0)
B, T, LONGER = 3, 5, 7
lengths = st.lists(st.integers(0, T) | st.sampled_from([0, 1, T]), min_size=B, max_size=B)
few = settings(deadline=None, max_examples=8)


def apart(inputs, filling, total, n):
    """Return inputs `[B, T, ...]` lengthened to `total` steps, with `filling` from n on."""
    pad = [(0, 0), (0, total - inputs.shape[1])] + [(0, 0)] * (inputs.ndim - 2)
    valid = jnp.arange(total) < n[:, None]
    valid = valid.reshape(valid.shape + (1,) * (inputs.ndim - 2))
    return jnp.where(valid, jnp.pad(inputs, pad), filling)


def check(run, variables, inputs, filling, thorough=True):
    """Compare what `run(variables, inputs, n)` gives, and its gradients, for other paddings.

    It returns values whose padding is cut off or zero, so that T does not matter; if `thorough`,
    which takes two more compilations, there is more of it, and none.
    """

    @jax.jit
    def everything(variables, padded, n):
        def loss(params, padded):
            values = run({**variables, "params": params}, padded, n)
            return architectures.weighted_sum(values), values

        argnums = (0, 1) if jnp.issubdtype(padded.dtype, jnp.inexact) else (0,)
        gradients, values = jax.grad(loss, argnums, has_aux=True)(variables["params"], padded)
        return values, gradients[0], [g[:, :T] for g in gradients[1:]]

    @few
    @given(lengths)
    def compare(n):
        n = np.array(n, np.int32)
        want = everything(variables, apart(inputs, 0, T, n), n)
        other = everything(variables, apart(inputs, filling, T, n), n)
        jax.tree.map(np.testing.assert_array_equal, other, want)
        if thorough:
            longer = everything(variables, apart(inputs, filling, LONGER, n), n)
            assert oracles.relative_error(longer, want) < 1e-5
        for g in want[2]:  # nothing flows into the padding
            assert not np.any(np.asarray(g)[np.arange(T) >= n[:, None]])

    compare()
    if thorough:
        got = everything(variables, inputs, jnp.full(B, T, jnp.int32))
        want = jax.jit(lambda v, x: run(v, x, None))(variables, inputs)
        assert oracles.relative_error(got[0], want) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.LAYERS)
def test_layers(name):
    layer = architectures.LAYERS[name]
    xs = jax.random.normal(KEY, (B, T, D))
    variables = layer.init(KEY, xs)

    def run(variables, xs, n):
        carry, ys = layer.apply(variables, xs, seq_lengths=n, return_carry=True)
        return [layer.final_output(carry, ys, n), ys[:, :T]] + (
            [] if name in ("tcn", "transformer") else jax.tree.leaves(carry)
        )

    thorough = {"lstm rnn", "lstm reversed", "lstm bidirectional", "tcn", "transformer"}
    check(run, variables, xs, jnp.nan, name in thorough)


SEQUENCE_MODELS = architectures.sequence_models(architectures.CELLS["gru"]) | {
    "transformer": models.ManyToOne(
        layers.Transformer(4, num_heads=2), layers.SoftmaxHead(2), architectures.embed()
    ),
    "frozen": models.ManyToMany(
        layers.TCN(4, num_blocks=1), layers.SoftmaxHead(2), layers.Embed(V, D, frozen=True)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCE_MODELS)
def test_models_of_one_sequence(name):
    model = SEQUENCE_MODELS[name]
    tokens = jax.random.randint(KEY, (B, T), 0, V)
    variables = model.init(KEY, tokens)

    def run(variables, tokens, n):
        outputs = model.apply(variables, tokens, seq_lengths=n)
        return [outputs[:, :T]] if name in ("many_to_many", "frozen") else [outputs]

    check(run, variables, tokens, V + 100, name in ("many_to_one_last", "frozen"))


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.translators(architectures.CELLS["gru"]))
def test_models_of_two_sequences(name):
    model = architectures.translators(architectures.CELLS["lstm"])[name]
    tokens = jax.random.randint(KEY, (B, T), 0, V)
    previous = tokens[:, ::-1]
    variables = model.init(KEY, tokens, previous)
    other = jnp.array([T, 0, 2])

    def source_padded(variables, tokens, n):
        outputs = model.apply(variables, tokens, previous, seq_lengths=n, target_lengths=other)
        return [outputs]

    def target_padded(variables, previous, n):
        outputs = model.apply(variables, tokens, previous, seq_lengths=other, target_lengths=n)
        return [outputs[:, :T]]

    check(source_padded, variables, tokens, V + 100, thorough=name == "additive")
    if name == "plain":  # the decoder is the same for all
        check(target_padded, variables, previous, V + 100)


@pytest.mark.slow
def test_the_perceptron_and_the_heads():
    model = models.OneToOne(layers.SoftmaxHead(3), (4,))
    xs = jax.random.normal(KEY, (B, T, D))
    variables = model.init(KEY, xs)
    run = functools.partial(model.apply)
    check(lambda v, x, n: [run(v, x, seq_lengths=n)[:, :T]], variables, xs, jnp.nan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive", "dot_product", "pooling"])
def test_attention_weighs_valid_steps_alone(name):
    module = {
        "additive": layers.AdditiveAttention(4),
        "dot_product": layers.DotProductAttention(4),
        "pooling": layers.AttentionPooling(4),
    }[name]
    keys = jax.random.normal(KEY, (B, T, D))
    queries = () if name == "pooling" else (keys[:, :2] * 3,)
    variables = module.init(KEY, *queries, keys)

    @jax.jit
    def weights(n):
        padded = apart(keys, jnp.nan, T, n)
        options = {"seq_lengths": n, "mutable": ["intermediates"]}
        found, state = module.apply(variables, *queries, padded, **options)
        context = found[0] if queries else found
        return context, state["intermediates"]["weights"][0]

    @few
    @given(lengths)
    def compare(n):
        n = np.array(n, np.int32)
        context, w = weights(n)
        w = np.asarray(w).reshape(B, -1, T)
        assert np.all(w[:, :, :] >= 0)
        padding = np.broadcast_to(np.arange(T) >= n[:, None, None], w.shape)
        assert not np.any(w[padding])
        np.testing.assert_allclose(w.sum(-1), np.broadcast_to(n[:, None] > 0, w.shape[:2]), 1e-6)
        want = np.einsum("bqt,btd->bqd", w, np.asarray(keys))
        np.testing.assert_allclose(np.reshape(context, want.shape), want, rtol=1e-5, atol=1e-6)

    compare()
