"""Each shape of model learns a task that needs it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from by_hand import KEY, collapsed, params_of, random_tokens, translator
from jax import lax

from rnnjax import GRU, Elman, decoding, layers, models
from rnnjax.layers import RNN


def after_training(model, params, batches, loss, judge, rate=0.02):
    """Return `judge(variables, *batch)` of the last batch, after a step of Adam on each other.

    Batches are inputs (a tuple) and targets, with an axis for the steps in front.
    """
    optimizer = optax.adam(rate)

    def update(state, batch):
        def mean(params):
            return loss(model.apply({"params": params}, *batch[0]), batch[1]).mean()

        params, slots = state
        updates, slots = optimizer.update(jax.grad(mean)(params), slots)
        return (optax.apply_updates(params, updates), slots), None

    @jax.jit
    def run(params, batches):
        start = params, optimizer.init(params)
        (params, _), _ = lax.scan(update, start, jax.tree.map(lambda a: a[:-1], batches))
        return judge({"params": params}, *jax.tree.map(lambda a: a[-1], batches))

    return jax.device_get(run(params, jax.tree.map(jnp.asarray, batches)))


def written(model, variables, start, inputs, length):
    state = model.apply(variables, inputs, method="start")
    step = functools.partial(model.apply, variables, method="step")
    return decoding.greedy(step, state, start, length=length)


def test_a_perceptron_learns_exclusive_or():
    head = layers.LogisticHead
    model = models.OneToOne(head(), (8,))
    inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    answers = np.array([[0], [1], [1], [0]], np.float32)
    batches = (np.tile(inputs, (200, 1, 1)),), np.tile(answers, (200, 1, 1))

    def judge(variables, given, _):
        return head.mode(model.apply(variables, *given))

    found = after_training(model, params_of(model, inputs), batches, head.loss, judge, 0.1)
    assert np.array_equal(found, answers)


def test_a_reader_learns_to_remember_the_first_token():
    model = models.ManyToOne(RNN(GRU(12)), layers.SoftmaxHead(4), layers.Embed(4, 8))
    tokens = random_tokens(300, 32, 6, size=4)

    def judge(variables, given, answers):
        return (model.apply(variables, *given).argmax(-1) == answers).mean()

    params, batches = params_of(model, tokens[0], scale=0.3), ((tokens,), tokens[:, :, 0])
    assert after_training(model, params, batches, layers.SoftmaxHead.loss, judge) > 0.95


def test_a_tagger_learns_to_say_what_was_two_steps_before():
    model = models.ManyToMany(RNN(Elman(16)), layers.SoftmaxHead(3), layers.Embed(3, 8))
    tokens = random_tokens(300, 32, 8, size=3)

    def loss(logits, targets):
        return layers.SoftmaxHead.loss(logits[:, 2:], targets)

    def judge(variables, given, answers):
        return (model.apply(variables, *given)[:, 2:].argmax(-1) == answers).mean()

    params, batches = params_of(model, tokens[0], scale=0.3), ((tokens,), tokens[:, :, :-2])
    assert after_training(model, params, batches, loss, judge) > 0.95


@pytest.mark.slow
def test_a_writer_learns_a_word_for_each_class():
    words = jnp.array([[1, 1, 2, 3], [1, 2, 1, 3], [3, 0, 0, 0], [2, 2, 2, 2], [0, 3, 1, 2]])
    model = models.OneToMany(RNN(Elman(16)), layers.SoftmaxHead(5), layers.Embed(5, 8))
    inputs = jnp.eye(5), models.shift_right(words, 4)
    batches = jax.tree.map(lambda a: np.tile(a, (200, 1, 1)), (inputs, words))

    def judge(variables, given, _):
        return written(model, variables, 4, given[0], 4)

    params = params_of(model, *inputs, scale=0.3)
    loss = layers.SoftmaxHead.loss
    tokens, log_probs = after_training(model, params, batches, loss, judge)
    assert np.array_equal(tokens, words) and log_probs.min() > np.log(0.8)


@pytest.mark.slow
def test_a_translator_learns_to_reverse():
    model = translator(layers.AdditiveAttention(16), GRU, 6, 24)
    tokens = random_tokens(400, 32, 4, size=5)
    answers = tokens[:, :, ::-1]
    previous = np.concatenate([np.full_like(tokens[:, :, :1], 5), answers[:, :, :-1]], -1)

    def judge(variables, given, answers):
        return (written(model, variables, 5, given[0], 4)[0] == answers).mean()

    params = jax.jit(model.init)(KEY, tokens[0], previous[0])["params"]
    batches = (tokens, previous), answers
    assert after_training(model, params, batches, layers.SoftmaxHead.loss, judge) > 0.95


@pytest.mark.slow
def test_ctc_learns_to_merge_and_to_drop():
    """Inputs are letters of which 0 is silence; nobody says when a label was spoken."""
    model = models.ManyToMany(RNN(Elman(16)), layers.SoftmaxHead(4), layers.Embed(4, 8))
    tokens = random_tokens(300, 32, 8, size=4)
    labels, counts = np.zeros_like(tokens), np.zeros(tokens.shape[:2], np.int32)
    for place in np.ndindex(*counts.shape):
        said = collapsed((np.array([0, 3, 1, 2])[tokens[place]]).tolist(), 0)  # another alphabet
        labels[place][: len(said)], counts[place] = said, len(said)

    def loss(logits, targets):
        return models.ctc_loss(logits, targets[0], label_lengths=targets[1])

    def judge(variables, given, answers):
        found, number = decoding.ctc_greedy(model.apply(variables, *given))
        return ((found == answers[0]).all(-1) & (number == answers[1])).mean()

    params = params_of(model, tokens[0], scale=0.3)
    assert after_training(model, params, ((tokens,), (labels, counts)), loss, judge) > 0.95
