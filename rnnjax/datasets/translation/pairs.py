"""Pairs of sentences as an encoder-decoder reads and writes them.

Axis letters: N pairs, S words of a source, T words of a translation and its end.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnjax.datasets.batches import pad
from rnnjax.datasets.translation.loader import load
from rnnjax.datasets.translation.tokens import plain, tokenize
from rnnjax.datasets.vocabulary import Vocabulary

END = 1  # of `Vocabulary`


class Pairs(NamedTuple):
    """Sentences and their translations: the `plain` texts, and their words."""

    texts: list[str]
    translations: list[str]
    source_words: list[list[str]]
    target_words: list[list[str]]


def short_pairs(split: str, source: str, max_words: int) -> Pairs:
    """Return the pairs of a split with at most `max_words` words on either side.

    Raises:
        ValueError: there are none; others as `load`.
    """
    loaded = zip(*load(split, source), strict=True)
    found = [(plain(s), plain(t), tokenize(s), tokenize(t)) for s, t in loaded]
    short = [pair for pair in found if max(map(len, pair[2:])) <= max_words]
    if not short:
        raise ValueError(f"{max_words} words leave no pair of {split}; give a larger number")
    return Pairs(*(list(column) for column in zip(*short, strict=True)))


def columns(
    vocabularies: Sequence[Vocabulary], pairs: Pairs, max_words: int
) -> dict[str, np.ndarray]:
    """Return `inputs [N, S]`, `targets [N, T]`, each with an end, and the lengths of both.

    Longer sentences are cut: S is `max_words`, and T is one more.

    Args:
        vocabularies: of the language to read, and of the one to write.
        max_words: of a sentence.
    """
    read, write = vocabularies
    inputs, lengths = pad([read.encode(words) for words in pairs.source_words], max_words)
    ended = [np.append(write.encode(words), np.int32(END)) for words in pairs.target_words]
    tokens, target_lengths = pad(ended, max_words + 1)
    found = {"inputs": inputs, "lengths": lengths}
    return {**found, "targets": tokens, "target_lengths": target_lengths}
