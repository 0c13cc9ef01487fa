"""The nucleus by hand, and the log probabilities of what is drawn from it by a second pass."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import D, H
from hypothesis import assume, given
from scipy.special import logsumexp
from token_model import END, KEY, LENGTH, MIX, START, STIR, TABLE, B, V, example, step

from rnnjax import GRU, layers, models
from rnnjax.decoding import sample, sample_after, sample_from
from rnnjax.decoding.truncation import nucleus
from rnnjax.layers import RNN

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)
compiled = jax.jit(nucleus)


def smallest_set(weights, top_p):
    """Return which tokens the nucleus holds, taking the largest of those left again and again."""
    left, held, total = [*weights], [False] * len(weights), 0
    while total < top_p * sum(weights):
        best = left.index(max(left))  # the lowest of equal ones
        total, left[best], held[best] = total + weights[best], -1, True
    return held


@given(WEIGHTS, st.floats(1e-3, 1.0))
def test_the_nucleus_is_the_smallest_set_of_the_most_probable_tokens(weights, top_p):
    sums = np.cumsum(sorted(weights, reverse=True)) / sum(weights)
    assume(top_p < 1 and np.abs(sums - top_p).min() > 1e-5)  # else rounding decides
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([weights + [0] * (6 - len(weights))], np.float32))
    got = np.asarray(compiled(jnp.asarray(logits), top_p))[0]
    assert got.tolist() == smallest_set(weights, top_p) + [False] * (6 - len(weights))


def test_of_equally_probable_tokens_the_lowest_are_kept():
    logits = jnp.array([[0.0, 0, 0, 0], [-1, 0, -1, 0], [-jnp.inf, 0, 0, -jnp.inf]])
    want = [[True, True, False, False], [False, True, False, True], [False, True, False, False]]
    np.testing.assert_array_equal(nucleus(logits, 0.4), want)


@pytest.mark.slow
def test_the_whole_distribution_is_its_own_nucleus_to_the_bit():
    logits = jnp.array([[0.0, -20, -40, -60], [5.0, 5, 5, -200]])
    assert nucleus(logits, 1.0).all()  # though the first token has a probability of 1 by rounding

    @jax.jit
    def run(temperature, top_p=None):
        options = {"key": KEY, "length": LENGTH, "end": END, "top_p": top_p}
        return sample(step, START, 0, temperature=temperature, **options)

    for temperature in (1.0, 3.0):
        jax.tree.map(np.testing.assert_array_equal, run(temperature, 1.0), run(temperature))


def test_one_program_takes_every_top_p():
    draw = jax.jit(
        lambda top_p: sample(step, START, 0, key=KEY, length=LENGTH, end=END, top_p=top_p)
    )
    found = [draw(top_p).log_probs.sum() for top_p in (1e-9, 0.5, 0.9, 1.0)]
    assert len(set(map(float, found))) > 1 and draw._cache_size() == 1


def test_a_traced_top_p_out_of_range_still_keeps_a_token():
    draw = jax.jit(lambda top_p: sample(step, START, 0, key=KEY, length=LENGTH, top_p=top_p))
    for top_p in (0.0, -1.0):
        np.testing.assert_array_equal(draw(top_p).tokens, draw(1e-30).tokens)


@pytest.mark.slow
def test_tokens_whose_logit_is_minus_infinity_are_never_drawn():
    logits = jnp.broadcast_to(jnp.array([-jnp.inf, 1.0, -jnp.inf, 0.0]), (500, 4))
    for options in ({"top_p": 1.0}, {"top_p": 0.99}, {"top_k": 3, "top_p": 0.999}):
        found = sample(
            lambda c, t: (c, logits), (), np.zeros(500, int), key=KEY, length=2, **options
        )
        assert set(np.unique(found.tokens)) == {1, 3}
        assert np.isfinite(found.token_log_probs).all()
        np.testing.assert_array_equal(found.token_log_probs, found.drawn_log_probs)


def test_after_the_end_there_is_padding_that_does_not_count():
    many = jax.tree.map(lambda a: np.repeat(a, 50, 0), START)
    found = jax.device_get(
        sample(step, many, 0, key=KEY, length=6, end=END, top_p=0.8, temperature=1.3)
    )
    after = np.arange(6) >= found.lengths[:, None]
    assert after.any() and not after.all(0).any()
    assert (found.tokens[after] == END).all()
    last = np.take_along_axis(found.tokens, found.lengths[:, None] - 1, 1)[:, 0]
    assert ((last == END) | (found.lengths == 6)).all()
    assert (found.tokens[np.arange(6) < found.lengths[:, None] - 1] != END).all()
    for log_probs in (found.token_log_probs, found.drawn_log_probs):
        assert not log_probs[after].any()
    assert (found.drawn_log_probs <= 0).all() and (found.drawn_log_probs == 0)[~after].any()
    np.testing.assert_allclose(found.token_log_probs.sum(1), found.log_probs, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"top_p": 0.7}, {"top_k": 2, "top_p": 0.9, "temperature": 2.0}]
)
def test_log_probs_have_the_gradient_of_the_tokens_given(options, x64):
    @jax.jit
    def run(table):
        def both(table):
            model = functools.partial(step, table=table)
            found = sample(model, START, 0, key=KEY, length=LENGTH, end=END, **options)
            sums = jnp.stack([found.token_log_probs.sum(), found.drawn_log_probs.sum()])
            return sums, (sums, found.tokens)

        return jax.jacrev(both, has_aux=True)(table)

    slopes, (sums, tokens) = jax.device_get(run(TABLE))

    def given(table):
        """Both log probabilities of those tokens, with the kept set worked out by hand."""
        totals = np.zeros(2)
        for b in range(B):
            (previous, trace), token = example(b), 0
            for chosen in tokens[b].tolist():
                trace = np.tanh(trace + STIR[token])
                logits = table[previous, token] + trace @ MIX
                totals[0] += logits[chosen] - logsumexp(logits)
                scores = logits / options.get("temperature", 1.0)
                held = np.exp(scores)
                held[np.argsort(-held)[options.get("top_k", V) :]] = 0
                held = np.flatnonzero(smallest_set(held.tolist(), options["top_p"]))
                totals[1] += scores[chosen] - logsumexp(scores[held])
                previous, token = token, chosen
                if token == END:
                    break
        return totals

    np.testing.assert_allclose(sums, given(TABLE), rtol=1e-10)
    assert sums[0] != sums[1]
    for place in np.ndindex(TABLE.shape):
        shift = np.zeros_like(TABLE)
        shift[place] = 1e-5
        slope = (given(TABLE + shift) - given(TABLE - shift)) / 2e-5
        np.testing.assert_allclose(slopes[:, *place], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_teacher_forced_pass_gives_the_same_log_probs():
    model = models.ManyToMany(RNN(GRU(H)), layers.SoftmaxHead(V), layers.Embed(V, D))
    params = model.init(KEY, jnp.zeros((1, 1), jnp.int32))["params"]
    carry, _ = model.apply({"params": params}, jnp.zeros((40, 0), jnp.int32), return_carry=True)
    found = sample(
        lambda c, t: model.apply({"params": params}, c, t, method="step"),
        *(carry, 1),
        key=KEY,
        length=7,
        end=END,
        top_k=2,
        top_p=0.8,
        temperature=1.5,
    )
    previous = models.shift_right(found.tokens, 1)
    logits = model.apply({"params": params}, previous, seq_lengths=found.lengths)
    losses = layers.SoftmaxHead.loss(logits, found.tokens)
    valid = np.arange(7) < found.lengths[:, None]
    np.testing.assert_allclose(found.token_log_probs, np.where(valid, -losses, 0), rtol=1e-5)
    assert len(set(found.lengths.tolist())) > 2


@pytest.mark.slow
def test_flax_models_write_with_every_option():
    reader = models.ManyToMany(RNN(GRU(H)), layers.SoftmaxHead(V), layers.Embed(V, D))
    params = reader.init(KEY, jnp.zeros((1, 1), jnp.int32))["params"]
    writer = models.OneToMany(RNN(GRU(H)), layers.SoftmaxHead(V), layers.Embed(V, D))
    contexts, prompt = np.ones((2, 3), np.float32), np.array([1, 0], np.int32)
    variables = writer.init(KEY, jnp.asarray(contexts), jnp.zeros((2, 1), jnp.int32))["params"]

    def both(**options):
        options |= {"length": 8, "temperature": 5.0}
        written = sample_after(reader, params, prompt, KEY, **options)
        return np.concatenate(
            [written, *sample_from(writer, variables, contexts, 1, KEY, **options)]
        )

    greedy = both(top_k=1)
    np.testing.assert_array_equal(both(top_p=1e-9), greedy)
    np.testing.assert_array_equal(both(top_k=3, top_p=1e-9), greedy)
    np.testing.assert_array_equal(both(top_p=1.0), both())
    assert (both() != greedy).any()
    for wrong in ({"top_p": 0.0}, {"top_p": 1.5}, {"temperature": 0.0}, {"top_k": 0}):
        (name,) = wrong
        options = {"length": 3} | wrong
        for write in (
            lambda o=options: sample_after(reader, params, prompt, KEY, **o),
            lambda o=options: sample_from(writer, variables, contexts, 1, KEY, **o),
        ):
            with pytest.raises(ValueError, match=f"{name} must be"):
                write()
