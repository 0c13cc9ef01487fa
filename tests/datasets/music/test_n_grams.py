"""N-gram baselines of chorales by hand."""

import math

import numpy as np

from rnnjax.datasets.music import HOLD, REST, Chorale
from rnnjax.datasets.music.n_grams import bits_per_sixteenth


def chorale(pitches, **changes):
    """Return a chorale in C major, four sixteenths a bar, without upbeat."""
    known = {"name": "x", "title": "", "melody": "x", "tonic": 0, "mode": "major"}
    return Chorale(**known | {"bar": 4, "upbeat": 0, "pitches": np.array(pitches)} | changes)


def test_baselines_by_hand():
    """One voice sings C C D, C begins each time; the others rest. Then it is asked about C D."""
    rests = [[HOLD] * 3] * 2
    train = chorale([[60, *[REST] * 3], [60, *rests[0]], [62, *rests[0]]])
    held_out = chorale([[60, *[REST] * 3], [62, *rests[0]]])
    found = bits_per_sixteenth([train], [held_out])
    c, d = (2 + 2 / 3) / 5, (1 + 2 / 3) / 5  # two notes and what is unknown
    rest, hold = (1 + 2 / 3) / 5, (2 + 2 / 3) / 5
    others = 3 * (math.log2(rest) + math.log2(hold))
    np.testing.assert_allclose(found["unigram"], -(math.log2(c) + math.log2(d) + others) / 2)
    first, then = (1 + c) / 2, (1 + 2 * d) / 4  # the first is always C; after C came C and D
    others = 3 * (math.log2((1 + rest) / 2) + math.log2((1 + hold) / 2))
    bigram = -(math.log2(first) + math.log2(then) + others) / 2
    np.testing.assert_allclose(found["bigram"], bigram)
