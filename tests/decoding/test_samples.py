"""What Flax models write, against their steps one by one in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import D, H, V
from by_hand import KEY, translator

import rnnjax
from rnnjax import layers, models
from rnnjax.decoding import beam_search, sample_after, sample_from, translate
from rnnjax.layers import RNN

COLD = {"length": 6, "temperature": 1e-4, "never": 0}


def embed():
    return layers.Embed(V, D)


def greedy(step, state, token, length):
    """Return the most probable tokens but 0, one after another."""
    found = []
    for _ in range(length):
        state, logits = step(state, jnp.full(len(jax.tree.leaves(state)[0]), token))
        token = int(logits[0, 1:].argmax()) + 1
        found.append(token)
    return found


@pytest.mark.slow
def test_after_a_prompt_the_state_is_carried_on():
    model = models.ManyToMany(RNN(rnnjax.GRU(H)), layers.SoftmaxHead(V), embed())
    params = model.init(KEY, jnp.zeros((1, 1), jnp.int32))["params"]

    def step(carry, token):
        return model.apply({"params": params}, carry, token, method="step")

    for prompt in ([1], [1, 2, 3], [2] * 70):
        read = jnp.array([prompt[:-1]], jnp.int32)
        carry, _ = model.apply({"params": params}, read, return_carry=True)
        found = sample_after(model, params, np.array(prompt, np.int32), KEY, **COLD)
        assert found.tolist() == greedy(step, carry, prompt[-1], 6)
    found = sample_after(model, params, np.array([1], np.int32), KEY, length=9, end=2)
    ended = np.flatnonzero(found == 2)
    assert not len(ended) or (found[ended[0] :] == 2).all()
    with pytest.raises(ValueError, match="the prompt needs at least one token"):
        sample_after(model, params, np.zeros(0, np.int32), KEY, length=3)


@pytest.mark.slow
def test_from_a_context_the_state_is_that_of_the_model():
    model = models.OneToMany(RNN(rnnjax.GRU(H)), layers.SoftmaxHead(V), embed())
    contexts = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    params = model.init(KEY, jnp.asarray(contexts), jnp.zeros((2, 1), jnp.int32))["params"]

    def step(state, token):
        return model.apply({"params": params}, state, token, method="step")

    found = sample_from(model, params, contexts, 1, KEY, **COLD)
    for row in range(2):
        state = model.apply(
            {"params": params}, jnp.asarray(contexts[row : row + 1]), method="start"
        )
        assert found[row].tolist() == greedy(step, state, 1, 6)


@pytest.mark.slow
def test_a_translation_is_that_of_the_beam_search_with_its_attention():
    model = translator(layers.DotProductAttention(3))
    inputs, lengths = jnp.array([[1, 2, 3, 1], [2, 3, 0, 0]]), jnp.array([4, 2])
    params = model.init(KEY, inputs, inputs, seq_lengths=lengths)["params"]
    assert model.head is model.decoder.head
    variables, options = {"params": params}, {"length": 5, "beam_width": 3, "end": 1}
    state = model.apply(variables, inputs, seq_lengths=lengths, method="start")

    def step(state, token):
        return model.apply(variables, state, token, method="step")

    tokens, weights = translate(model, params, inputs, lengths, start=1, **options)
    np.testing.assert_array_equal(tokens, beam_search(step, state, 1, **options)[0][:, 0])
    previous = models.shift_right(tokens, 1)
    _, sown = model.apply(
        variables, inputs, previous, seq_lengths=lengths, mutable=["intermediates"]
    )
    (expected,) = sown["intermediates"]["decoder"]["attention"]["weights"]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not np.asarray(weights)[1, :, 2:].any()  # nothing lies behind the second source
