"""The translation memory, by the definition of the Jaccard index."""

import numpy as np

from rnnjax.datasets.translation.memory import most_similar


def test_the_memory_is_the_sentence_with_the_largest_jaccard_index():
    draw = np.random.RandomState(0)
    memory, sources = ([list(draw.choice(list("abcdefg"), 4)) for _ in range(n)] for n in (40, 20))
    sources.append(["z"])  # shares nothing with any
    for source, place in zip(sources, most_similar(memory, sources), strict=True):
        indices = [len({*source} & {*m}) / len({*source} | {*m}) for m in memory]
        assert place == indices.index(max(indices))
