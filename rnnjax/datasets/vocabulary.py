"""Texts to numbers and back: a vocabulary of words or characters, fitted to training texts."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32

from rnnjax.datasets import batches

UNKNOWN, END = "<unknown>", "<end>"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens and their numbers: 0 is any unknown token, 1 the end of a sequence.

    Number 1 is also the first input of a decoder (`rnnjax.models.shift_right`). Fit a vocabulary to
    the training split alone. `dataclasses.asdict` returns what a run saves.
    """

    tokens: tuple[str, ...]

    @classmethod
    def fit(
        cls, sequences: Iterable[Sequence[str]], *, size: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Return the vocabulary of the most frequent tokens; ties are in alphabetical order.

        Args:
            sequences: sequences of tokens, such as lists of words, or strings of characters.
            size: the largest number of tokens, including the two special ones.
            min_count: how often a token must occur.

        Raises:
            ValueError: `size` or `min_count` leaves no token.
        """
        counts = collections.Counter(token for sequence in sequences for token in sequence)
        order = sorted(counts, key=lambda token: (-counts[token], token))
        kept = [token for token in order if counts[token] >= min_count]
        kept = kept if size is None else kept[: max(size - 2, 0)]
        if not kept:
            raise ValueError(
                f"size {size} and min_count {min_count} leave no token; give a larger size or a "
                "smaller min_count"
            )
        return cls((UNKNOWN, END, *kept))

    def __len__(self) -> int:
        """Return the number of tokens, including the two special ones."""
        return len(self.tokens)

    @functools.cached_property
    def _numbers(self):
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, sequence: Sequence[str]) -> Int32[np.ndarray, " T"]:
        """Return the numbers of the tokens; 0 for unknown tokens."""
        return np.array([self._numbers.get(token, 0) for token in sequence], np.int32)

    def encode_all(
        self, sequences: Iterable[Sequence[str]], length: int | None = None, *, ending: bool = False
    ) -> tuple[Int32[np.ndarray, "N T"], Int32[np.ndarray, " N"]]:
        """Return sequences as one array, padded with zeros, and their lengths.

        Args:
            sequences: sequences of tokens.
            length: T; None means that of the longest. What is longer is cut.
            ending: append the end, number 1, to each.
        """
        end = np.ones(int(ending), np.int32)
        return batches.pad([np.append(self.encode(s), end) for s in sequences], length)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the tokens of the numbers, up to the first end token."""
        tokens = []
        for number in numbers:
            if number == 1:
                break
            tokens.append(self.tokens[int(number)])
        return tokens


def words(text: str) -> list[str]:
    """Return the words, numbers and punctuation marks of a text, in lower case.

    An apostrophe within a word belongs to it: "Don't go!" is `["don't", "go", "!"]`.
    """
    return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text.lower())
