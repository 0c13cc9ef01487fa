"""A translation memory: the baseline that answers with the translation of a similar sentence."""

import collections
from collections.abc import Sequence

import numpy as np


def most_similar(memory: Sequence[Sequence[str]], sources: Sequence[Sequence[str]]) -> list[int]:
    """Return for each source the index of the most similar sentence in the memory.

    Similar by the Jaccard index of the sets of words, |A & B| / |A | B|; the first among equals.
    """
    sets = [set(words) for words in memory]
    sizes = np.array([len(words) for words in sets])
    places = collections.defaultdict(list)
    for place, words in enumerate(sets):
        for word in words:
            places[word].append(place)
    found = []
    for words in map(set, sources):
        shared = np.zeros(len(memory))
        for word in words & places.keys():
            shared[places[word]] += 1
        found.append(int((shared / (sizes + len(words) - shared)).argmax()))
    return found
