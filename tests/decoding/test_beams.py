"""Beam search against enumeration and lists."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_model import END, LENGTH, START, B, V, all_sequences, example, next_scores, step

from rnnjax.decoding import beam_search


@pytest.mark.parametrize("end", [None, END])
def test_a_wide_beam_is_exhaustive(end, x64):
    want = [all_sequences(example(b), 0, end) for b in range(B)]
    count, spare = len(want[0]), 3
    assert count == (31 if end == END else 81)
    search = jax.jit(
        lambda penalty: beam_search(
            *(step, START, 0),
            length=LENGTH,
            beam_width=count + spare,
            end=end,
            length_penalty=penalty,
        )
    )
    for penalty in (0, 0.6, 1):
        tokens, log_probs, lengths = jax.device_get(search(jnp.asarray(penalty, float)))
        for b in range(B):
            score = {k: total / n**penalty for k, (total, n) in want[b].items()}
            order = sorted(score, key=lambda k, score=score: -score[k])
            assert [tuple(row) for row in tokens[b, :count].tolist()] == order
            totals, counts = zip(*(want[b][k] for k in order), strict=True)
            np.testing.assert_allclose(log_probs[b, :count], totals, rtol=1e-12)
            np.testing.assert_array_equal(lengths[b, :count], counts)
        assert (log_probs[:, count:] == -jnp.inf).all()
        assert (lengths[:, count:] == 0).all() and (tokens[:, count:] == (end or 0)).all()
    assert search._cache_size() == 1


def beam_by_lists(state, start, width, end, penalty):
    beam = [(0.0, (), state, False)]
    for _ in range(LENGTH):
        candidates = []
        for total, tokens, state, finished in beam:
            if finished:
                candidates.append((total, tokens, state, True))
                continue
            after, scores = next_scores(state, tokens[-1] if tokens else start)
            for v in range(V):
                candidates.append((total + scores[v], (*tokens, v), after, v == end))
        candidates.sort(key=lambda c: -c[0] / len(c[1]) ** penalty)
        beam = candidates[:width]
    return [(t + (end,) * (LENGTH - len(t)), total, len(t)) for total, t, *_ in beam]


@pytest.mark.parametrize("width", [2, 5])
def test_a_narrow_beam_keeps_what_lists_keep(width, x64):
    search = jax.jit(
        lambda start, penalty: beam_search(
            *(step, START, start),
            length=LENGTH,
            beam_width=width,
            end=END,
            length_penalty=penalty,
        )
    )
    missed = 0
    for first, penalty in itertools.product(range(V), (0.0, 0.6, 1.0)):
        start = np.array([first, (first + 1) % V])  # END may come first: nothing is finished by it
        got = jax.device_get(search(start, penalty))
        for b in range(B):
            want = beam_by_lists(example(b), start[b], width, END, penalty)
            for have, wanted in zip(got, zip(*want, strict=True), strict=True):
                np.testing.assert_allclose(have[b], wanted, rtol=1e-12)
            score = all_sequences(example(b), start[b], END)
            score = {k: total / length**penalty for k, (total, length) in score.items()}
            best = sorted(score, key=lambda k, score=score: -score[k])[:width]
            missed += set(best) != {tokens for tokens, *_ in want}
    assert missed  # narrow enough that it is no exhaustive search
