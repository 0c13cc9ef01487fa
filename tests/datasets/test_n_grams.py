"""N-grams by their definition, from strings."""

import collections
import math

import pytest

from rnnjax.datasets.n_grams import interpolate, n_gram_bits


def witten_bell(train, context, c, size):
    """p(c | context) by its definition, from strings in which every document begins with #."""
    shorter = witten_bell(train, context[1:], c, size) if context else 1 / size
    following = [d[i + len(context)] for d in train for i in range(len(d)) if
                 d.startswith(context, i) and 1 <= i + len(context) < len(d)]  # fmt: skip
    if not following:
        return shorter
    types = len(set(following))
    return (following.count(c) + types * shorter) / (len(following) + types)


def test_n_grams_follow_their_definition():
    train, held_out = ["abcab", "bb", "cab"], ["abba", "", "cc"]
    marked, asked = (["#" + text for text in texts] for texts in (train, held_out))
    numbers = {c: i for i, c in enumerate("?#abc")}
    train, held_out = ([[numbers[c] for c in text] for text in t] for t in (marked, asked))
    found = n_gram_bits(train, held_out, len(numbers), 4)
    assert found.shape == (4,)
    for n in range(1, 5):
        bits = [
            -math.log2(witten_bell(marked, text[max(0, i - n + 1) : i], text[i], len(numbers)))
            for text in asked
            for i in range(1, len(text))
        ]
        assert found[n - 1] == pytest.approx(sum(bits), rel=1e-12)


def test_a_context_is_interpolated_with_a_shorter_one():
    found = collections.Counter([7, 7, 8])
    assert interpolate(found, 7, 0.25) == (2 + 2 * 0.25) / (3 + 2)
    assert interpolate(found, 9, 0.25) == 2 * 0.25 / 5
