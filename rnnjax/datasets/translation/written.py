"""What a network with attention has written: its words, and where it looked for each.

Axis letters: N sentences, S words of a source, T words of a translation.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rnnjax.datasets.vocabulary import Vocabulary


def words_of(
    vocabulary: Vocabulary,
    tokens: Int[np.ndarray, " T"],
    weights: Float[np.ndarray, "T S"],
    source: Sequence[str],
) -> list[str]:
    """Return the words of a translation; for an unknown one, the source word it attends to most.

    Args:
        vocabulary: of the language that is written.
        tokens: the words up to the first end.
        weights: of the attention before each word.
        source: the words that were read.

    Source: Luong, Sutskever, Le, Vinyals, Zaremba 2015, arXiv:1410.8206.
    """
    words = vocabulary.decode(tokens.tolist())
    looked = weights[: len(words), : len(source)].argmax(-1)
    return [
        source[int(place)] if number == 0 else word
        for word, number, place in zip(words, tokens, looked, strict=False)
    ]


def attention_table(
    sources: Iterable[Sequence[str]],
    written: Iterable[Sequence[str]],
    weights: Iterable[Float[np.ndarray, "T S"]],
    panels: int = 3,
) -> list[dict[str, Any]]:
    """Return the parts of a table: the attention of some short translations, word by source word.

    Columns `sentences` (both, as the title of a panel), `word` and `source_word` (from 1), and
    `weight`.

    Args:
        sources: the words of each sentence.
        written: the words of each translation.
        weights: the attention of each.
        panels: most sentences.
    """
    parts = []
    for source, words, looked in zip(sources, written, weights, strict=True):
        if len(parts) < panels and 4 <= len(source) <= 6 and 0 < len(words) <= 8:
            places = np.indices((len(words), len(source))).reshape(2, -1) + 1
            sentences = f"{' '.join(source)}\n{' '.join(words)}".replace("$", r"\$")
            part = {"sentences": sentences, "word": places[0], "source_word": places[1]}
            parts.append(part | {"weight": looked[: len(words), : len(source)].ravel()})
    return parts or [{name: [] for name in ("sentences", "word", "source_word", "weight")}]
