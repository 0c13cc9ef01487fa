"""Wrong arguments, empty batches and models without a carry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_model import END, KEY, LENGTH, RNG, START, TABLE, B, Carry, V, step

from rnnjax.decoding import beam_search, ctc_beam_search, ctc_greedy, generate, greedy, sample


def test_a_step_settles_its_own_types():
    """An initial carry in a narrower type than the step's, and logits in bfloat16."""
    narrow = START._replace(trace=jnp.asarray(START.trace, jnp.bfloat16))
    wide = narrow._replace(trace=narrow.trace.astype(jnp.float32))

    def widening(carry, token):
        carry, logits = step(carry._replace(trace=carry.trace.astype(jnp.float32)), token)
        return carry, logits.astype(jnp.bfloat16)

    jitted = jax.jit(widening)

    def loop(b, token):
        carry, total = Carry(*(leaf[b : b + 1] for leaf in wide)), 0.0
        for _ in range(LENGTH):
            carry, logits = jitted(carry, np.array([token]))
            scores = np.asarray(logits[0], float)
            token = int(scores.argmax())
            total += scores[token] - np.log(np.exp(scores).sum())
        return total

    want = [loop(b, 0) for b in range(B)]
    for decode in (greedy, functools.partial(beam_search, beam_width=1)):
        run = jax.jit(functools.partial(decode, widening, length=LENGTH))
        log_probs = run(narrow, np.array([0, 0]))[1]
        assert log_probs.dtype == jnp.float32
        np.testing.assert_allclose(log_probs.reshape(B), want, rtol=1e-5)


@pytest.mark.slow
def test_vmap_is_a_loop():
    starts = np.array([[0, 1], [1, 2], [2, 0]])
    carries = Carry(starts[::-1].copy(), RNG.normal(size=(3, B, 2)))
    keys = jax.random.split(KEY, 3)
    logits = RNG.normal(size=(3, B, 5, V))
    lengths = np.array([[0, 5], [3, 2], [5, 4]])
    options = {"length": 3, "end": END}

    def decode(carry, start, key, logits, lengths):
        return (
            greedy(step, carry, start, **options),
            sample(step, carry, start, key=key, top_p=0.8, **options),
            beam_search(step, carry, start, beam_width=3, **options),
            ctc_greedy(logits, seq_lengths=lengths),
            ctc_beam_search(logits, seq_lengths=lengths, beam_width=4),
        )

    arguments = carries, starts, keys, logits, lengths
    got = jax.device_get(jax.jit(jax.vmap(decode))(*arguments))
    one = jax.jit(decode)
    for s in range(3):
        want = one(*jax.tree.map(lambda a, s=s: a[s], arguments))
        jax.tree.map(
            lambda a, b, s=s: np.testing.assert_allclose(a[s], b, rtol=1e-5), got, tuple(want)
        )


@pytest.mark.slow
def test_empty_batches_and_the_smallest_vocabulary():
    none = Carry(np.zeros(0, int), np.zeros((0, 2), np.float32))

    @jax.jit
    def run(start, logits):
        return (
            *greedy(step, none, start, length=3, end=END),
            *sample(step, none, start, key=KEY, length=3, top_k=2, top_p=0.5),
            *beam_search(step, none, start, length=3, beam_width=2, end=END),
            *ctc_greedy(logits),
            *ctc_beam_search(logits, beam_width=2),
        )

    want = [(0, 3), (0,), (0, 3), (0,), (0,), (0, 3), (0, 3), (0, 2, 3), (0, 2), (0, 2)]
    want += [(0, 5), (0,), (0, 2, 5), (0, 2), (0, 2)]
    for start in (0, np.zeros(0, int)):
        assert [a.shape for a in run(start, np.zeros((0, 5, V)))] == want

    search = jax.jit(functools.partial(ctc_beam_search, beam_width=2))
    for logits in (np.zeros((1, 0, V)), np.ones((1, 4, 1))):  # no step, no label
        labels, log_probs, counts = search(logits)
        assert (labels == 0).all() and (counts == 0).all()
        np.testing.assert_array_equal(log_probs, [[0, -np.inf]])
        assert (jax.jit(ctc_greedy)(logits)[1] == 0).all()


def bare(carry, token):
    """A model without a carry."""
    return carry, jnp.asarray(TABLE, jnp.float32)[0, token]


def returns(logits):
    return lambda carry, token: (carry, logits)


def drawing(**options):
    return sample(step, START, 0, key=KEY, length=2, **options)


SEARCH = functools.partial(beam_search, length=2, beam_width=2)


LOGITS = np.zeros((B, 5, V), np.float32)


def test_a_model_needs_no_carry():
    after = TABLE[0].argmax(-1)
    tokens, _ = greedy(bare, (), [0, 1], length=2)
    np.testing.assert_array_equal(tokens, [(after[v], after[after[v]]) for v in (0, 1)])


def test_impossible_tokens_are_never_found():
    def model(carry, token):
        return carry, jnp.broadcast_to(jnp.array([0, -jnp.inf, 0]), (*token.shape, V))

    tokens, log_probs, lengths = beam_search(model, (), [1], length=2, beam_width=6)
    assert sorted(map(tuple, tokens[0, :4].tolist())) == [(0, 0), (0, 2), (2, 0), (2, 2)]
    np.testing.assert_allclose(log_probs[0, :4], np.log(0.25), rtol=1e-6)
    assert (log_probs[0, 4:] == -jnp.inf).all() and lengths.tolist() == [[2] * 4 + [0] * 2]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: greedy(step, START, 0, length=0), ValueError, "length must be a positive.*got 0"),
        (
            lambda: greedy(step, START, 3, length=2),
            ValueError,
            r"start .* 0\.\.V-1 = 0\.\.2, got 3",
        ),
        (lambda: SEARCH(step, START, [-1, 0]), ValueError, r"start must lie .*got -1\.\.0"),
        (
            lambda: greedy(step, START, 0.0, length=2),
            TypeError,
            "start must be an integer.*float32",
        ),
        (
            lambda: greedy(step, START, np.zeros((2, 1), int), length=2),
            ValueError,
            r"start .*\(2, 1",
        ),
        (
            lambda: greedy(step, START, np.zeros(3, int), length=2),
            ValueError,
            r"agree.*'start': \(3,",
        ),
        (lambda: SEARCH(step, START, 0, end=3), ValueError, r"end must lie in .*0\.\.2, got 3"),
        (
            lambda: SEARCH(step, START, 0, end=[1, 1]),
            ValueError,
            "end must be one token, got.*(2,)",
        ),
        (lambda: greedy(step, START, 0, length=2, end=1.0), TypeError, "end must be an integer"),
        (
            lambda: greedy(step, START._replace(trace=1.0), 0, length=2),
            ValueError,
            r"carry\.trace must have shape \[B, \.\.\.\].*got \(\)",
        ),
        (
            lambda: SEARCH(step, START._replace(trace=np.ones((3, 2))), 0),
            ValueError,
            r"agree on their first axis, B.*carry\.trace",
        ),
        (lambda: greedy(bare, (), 0, length=2), ValueError, "B is not known"),
        (
            lambda: SEARCH(returns(jnp.zeros(4)), START, 0),
            ValueError,
            r"\[B, V\].*B = 4, got \(4,\)",
        ),
        (lambda: SEARCH(returns(jnp.zeros((2, 3))), START, 0), ValueError, r"B = 4, got \(2, 3\)"),
        (
            lambda: greedy(returns(jnp.zeros((2, 3), int)), START, 0, length=2),
            TypeError,
            "the logits of step must be floating, got int32",
        ),
        (
            lambda: SEARCH(lambda c, t: (c.previous, step(c, t)[1]), START, 0),
            ValueError,
            "the carry that step returns must have the structure",
        ),
        (
            lambda: SEARCH(lambda c, t: (c._replace(trace=c.previous), step(c, t)[1]), START, 0),
            ValueError,
            r"the carry that step returns\.trace must have shape \(4, 2\), got \(4,\)",
        ),
        (
            lambda: greedy(lambda c, t: (c.previous, step(c, t)[1]), START, 0, length=2),
            ValueError,
            "the carry that step returns must have the structure",
        ),
        (
            lambda: generate(step, START, jnp.zeros(2, int), length=2, choose=lambda key, y: y),
            ValueError,
            r"what choose returns must have shape \(2,\), got \(2, 3\)",
        ),
        (
            lambda: generate(step, START, jnp.zeros((3, 1)), length=2, choose=lambda key, y: y),
            ValueError,
            r"carry and start must agree on their first axis, B.*'start': \(3, 1\)",
        ),
        (lambda: drawing(temperature=0.0), ValueError, "temperature must be a positive.*got 0.0"),
        (lambda: drawing(temperature=np.ones(2)), ValueError, "temperature must be a positive"),
        (lambda: drawing(top_k=0), ValueError, "top_k must be a positive integer, got 0"),
        (lambda: drawing(top_k=4), ValueError, r"top_k must lie in 1\.\.V = 1\.\.3, got 4"),
        (
            lambda: drawing(top_p=0),
            ValueError,
            "top_p must be a number above 0 and at most 1, got 0",
        ),
        (lambda: drawing(top_p=1.1), ValueError, r"top_p must be a number .* at most 1, got 1\.1"),
        (lambda: drawing(top_p=np.nan), ValueError, "top_p must be a number .*got nan"),
        (lambda: drawing(top_p=np.ones(2)), ValueError, "top_p must be a number above 0"),
        (
            lambda: beam_search(step, START, 0, length=2, beam_width=0),
            ValueError,
            "beam_width must be a positive integer, got 0",
        ),
        (
            lambda: SEARCH(step, START, 0, length_penalty=np.nan),
            ValueError,
            "length_penalty must be a finite number, got nan",
        ),
        (lambda: ctc_greedy(LOGITS[0]), ValueError, r"logits must .*\[B, T, V\].*got \(5, 3\)"),
        (lambda: ctc_greedy(LOGITS.astype(int)), TypeError, "logits must be floating, got int32"),
        (lambda: ctc_greedy(LOGITS, blank=3), ValueError, r"blank must lie .* 0\.\.2, got 3"),
        (lambda: ctc_beam_search(LOGITS, beam_width=0), ValueError, "beam_width .*got 0"),
        (
            lambda: ctc_beam_search(LOGITS, beam_width=2, seq_lengths=np.array([2, 6])),
            ValueError,
            r"lengths must lie in 0\.\.T = 0\.\.5, got 2\.\.6",
        ),
        (
            lambda: ctc_greedy(LOGITS, seq_lengths=np.zeros(2)),
            TypeError,
            "lengths must be integers",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
