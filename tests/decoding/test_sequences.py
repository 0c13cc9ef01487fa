"""Greedy decoding, sampling and generation against loops and enumeration."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2
from token_model import (
    END,
    KEY,
    LENGTH,
    START,
    TABLE,
    B,
    Carry,
    V,
    all_sequences,
    example,
    next_scores,
    sequence,
    step,
)

from rnnjax import Elman
from rnnjax.decoding import beam_search, generate, greedy, sample


def deadly(carry, token, table=TABLE):
    """The same model, which breaks once it has been fed `END`."""
    dead, carry = carry
    dead = dead | (token == END)
    trace = jnp.where(dead[:, None], jnp.nan, carry.trace)
    carry, logits = step(carry._replace(trace=trace), token, table)
    return (dead, carry), logits


@pytest.mark.parametrize("end", [None, END])
def test_greedy_is_a_loop_over_argmax_and_a_beam_of_one(end, x64):
    options = {"length": LENGTH, "end": end}
    run = jax.jit(lambda start: greedy(step, START, start, **options))
    search = jax.jit(lambda start: beam_search(step, START, start, beam_width=1, **options))
    for first in range(V):
        start = np.array([first, 1])
        tokens, log_probs = jax.device_get(run(start))
        for b in range(B):
            state, token, want = example(b), start[b], []
            for _ in range(LENGTH):
                state, scores = next_scores(state, token)
                token = int(scores.argmax())
                want.append(token)
            want, total, _ = sequence(example(b), start[b], want, end)
            assert tuple(tokens[b].tolist()) == want
            np.testing.assert_allclose(log_probs[b], total, rtol=1e-12)
        beam = search(start)
        np.testing.assert_array_equal(beam[0][:, 0], tokens)
        np.testing.assert_allclose(beam[1][:, 0], log_probs, rtol=1e-12)


@pytest.mark.slow
def test_what_a_model_says_after_the_end_does_not_matter():
    start = np.array([0, 1])
    dead = np.zeros(B, bool), START
    for decode in (
        greedy,
        functools.partial(sample, key=KEY),
        functools.partial(beam_search, beam_width=4, length_penalty=0.6),
    ):
        got, want = (
            jax.jit(functools.partial(decode, model, length=LENGTH, end=END))(carry, start)
            for model, carry in ((deadly, dead), (step, START))
        )
        assert (want[0][..., :-1] == END).any()
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_log_probs_have_the_gradient_of_the_tokens_given(x64):
    dead, options = (np.zeros(B, bool), START), {"length": LENGTH, "end": END}

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def slope(table):
        model = functools.partial(deadly, table=table)
        greedy_tokens, log_probs = greedy(model, dead, 0, **options)
        tokens, beam, _ = beam_search(model, dead, 0, beam_width=2, **options)
        return log_probs.sum() + beam.sum(), jnp.concatenate([tokens, greedy_tokens[:, None]], 1)

    got, tokens = jax.device_get(slope(TABLE))
    assert (tokens[..., :-1] == END).any() and (tokens[..., -1] != END).any()

    @jax.jit
    @jax.grad
    def given(table):
        total = 0.0
        for b, w in np.ndindex(tokens.shape[:2]):
            carry, token = Carry(*(leaf[b : b + 1] for leaf in START)), 0
            for chosen in tokens[b, w].tolist():
                carry, logits = step(carry, jnp.array([token]), table)
                total += jax.nn.log_softmax(logits)[0, chosen]
                token = chosen
                if token == END:
                    break
        return total

    np.testing.assert_allclose(got, given(TABLE), rtol=1e-10, atol=1e-14)


def cut(weights, top_k, top_p):
    """Return weights with zeros outside the k largest, then outside the nucleus, by hand."""
    order = np.argsort(-weights, kind="stable")
    weights[order[top_k:]] = 0
    weights /= weights.sum()
    count = 1
    while weights[order[:count]].sum() < top_p - 1e-12:
        count += 1
    weights[order[count:]] = 0
    return weights / weights.sum()


def drawn_with(state, start, temperature, top_k, top_p, length):
    """The probability of each sequence under tempered and truncated steps."""
    chances = {(): (1.0, state, start)}
    for _ in range(length):
        longer = {}
        for tokens, (chance, state, token) in chances.items():
            if tokens and tokens[-1] == END:
                longer[(*tokens, END)] = chance, state, END
                continue
            after, scores = next_scores(state, token)
            for v, q in enumerate(cut(np.exp(scores / temperature), top_k, top_p)):
                if q:
                    longer[(*tokens, v)] = chance * q, after, v
        chances = longer
    return {tokens: chance for tokens, (chance, *_) in chances.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperatures", "top_k", "top_p"),
    [
        ((1.0, 0.5), None, None),
        ((1.0, 0.5), 2, None),
        ((3.0,), 1, None),
        ((1.0, 1.5), None, 0.7),
        ((1.5,), 2, 0.6),
    ],
)
def test_samples_have_the_frequencies_and_the_log_probs_of_enumeration(temperatures, top_k, top_p):
    draws, length = 20_000, 3
    many = Carry(np.zeros(draws, int), np.tile(START.trace[0], (draws, 1)))
    run = jax.jit(
        lambda temperature, key: sample(
            *(step, many, 0),
            key=key,
            length=length,
            end=END,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
    )
    own = all_sequences(example(0), 0, END, length)
    for temperature in temperatures:
        found = jax.device_get(run(temperature, KEY))
        rows = [tuple(row) for row in found.tokens.tolist()]
        np.testing.assert_allclose(found.log_probs, [own[row][0] for row in rows], rtol=1e-5)
        np.testing.assert_array_equal(found.lengths, [own[row][1] for row in rows])
        counts = collections.Counter(rows)
        want = drawn_with(example(0), 0, temperature, top_k or V, top_p or 1.0, length)
        assert set(counts) <= set(want) and abs(sum(want.values()) - 1) < 1e-12
        chances = [np.log(want[row]) for row in rows]
        np.testing.assert_allclose(found.drawn_log_probs.sum(1), chances, rtol=1e-4, atol=1e-6)
        if top_k == 1:
            continue
        common = {k: q * draws for k, q in want.items() if q * draws > 5}
        seen = [(counts.pop(k, 0), n) for k, n in common.items()]
        seen.append((sum(counts.values()), draws - sum(common.values()) + 1e-9))  # all rare ones
        excess = sum((count - n) ** 2 / n for count, n in seen)
        assert chi2.sf(excess, len(seen) - 1) > 1e-3
        again, other = run(temperature, KEY)[0], run(temperature, jax.random.key(1))[0]
        assert (again == found.tokens).all() and (other != found.tokens).any()
    assert run._cache_size() == 1


@pytest.mark.slow
def test_cold_and_truncated_samples_are_greedy():
    want = jax.jit(lambda: greedy(step, START, 0, length=LENGTH))()
    for options in (
        {"temperature": 1e-40},
        {"temperature": 50.0, "top_k": 1},
        {"temperature": 50.0, "top_p": 1e-30},
        {"top_k": 2, "top_p": 1e-30},
    ):
        got = jax.jit(lambda key, o=options: sample(step, START, 0, key=key, length=LENGTH, **o))(
            KEY
        )
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_allclose(got[1], want[1], rtol=1e-6)


def test_a_token_that_is_never_drawn_leaves_its_probability_to_the_others():
    banned, draws = 1, 500
    many = Carry(np.zeros(draws, int), np.tile(START.trace[0], (draws, 1)))
    run = jax.jit(lambda key: sample(step, many, 0, key=key, length=LENGTH, never=banned))
    tokens, log_probs, *_ = map(np.asarray, run(KEY))
    assert set(np.unique(tokens)) == {*range(V)} - {banned}
    for row in range(20):
        state, token, want = example(0), 0, 0.0
        for chosen in tokens[row]:
            state, scores = next_scores(state, token)
            others = np.delete(np.exp(scores), banned).sum()
            want, token = want + scores[chosen] - np.log(others), chosen
        np.testing.assert_allclose(log_probs[row], want, rtol=1e-4)
    with pytest.raises(ValueError, match="never must lie in 0..V-1"):
        sample(step, START, 0, key=KEY, length=2, never=V)


@pytest.mark.slow
def test_real_vectors_are_generated_too():
    examples, length = 4000, 3
    cell = Elman(5)
    params = cell.init(KEY, 2)
    head = jax.random.normal(KEY, (5, 4))

    def gaussian(carry, x):
        carry = cell.step(params, carry, cell.project(params, x["frame"]))
        mean, log_scale = jnp.split(cell.output(carry) @ head, 2, axis=-1)
        return carry, (mean, jnp.exp(log_scale))

    def draw(key, y):
        mean, scale = y
        noise = 0 if key is None else jax.random.normal(key, mean.shape)
        return {"frame": mean + scale * noise, "mean": mean}

    start = {"frame": jnp.ones((examples, 2)), "mean": jnp.zeros((examples, 2))}
    carry = cell.initial_carry((examples,))
    for key in (None, KEY):
        run = jax.jit(lambda key: generate(gaussian, carry, start, key=key, length=3, choose=draw))
        written = run(key)
        assert written["frame"].shape == (examples, length, 2)
        state, x, noise = carry, start["frame"], []
        for t in range(length):  # what was written, read again
            state, (mean, scale) = jax.jit(gaussian)(state, {"frame": x})
            np.testing.assert_allclose(written["mean"][:, t], mean, rtol=1e-4, atol=1e-5)
            x = written["frame"][:, t]
            noise.append((x - mean) / scale)
        noise = np.concatenate(noise, axis=-1)
        if key is None:
            np.testing.assert_allclose(noise, 0, atol=1e-4)
        else:
            bound = 5 / np.sqrt(examples)
            np.testing.assert_allclose(noise.mean(0), 0, atol=bound)
            np.testing.assert_allclose(np.cov(noise.T), np.eye(6), atol=1.5 * bound)
