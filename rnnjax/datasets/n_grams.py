"""N-gram models of token sequences: baselines for text and music."""

import collections
import math
from collections.abc import Iterable, Sequence

import numpy as np


def interpolate(found: collections.Counter, token: int, shorter: float) -> float:
    """Return the probability of a token after a context, interpolated with a shorter context.

        p(x) = (count(x) + types p_shorter(x)) / (count + types)

    Args:
        found: counts of the tokens that followed the context in training.
        token: x.
        shorter: p_shorter(x).

    Source: Witten, Bell 1991, "The zero-frequency problem", method C. It has nothing to tune.
    """
    types = len(found)
    return (found[token] + types * shorter) / (found.total() + types)


def n_gram_bits(
    train: Iterable[Sequence[int]], held_out: Iterable[Sequence[int]], size: int, longest: int
) -> np.ndarray:
    """Return the bits of all held-out tokens under n-grams, n = 1 .. longest: `[longest]`.

    The first token of each sequence is context and is not predicted. The probabilities are those of
    `interpolate`, from p_0 = 1 / size up.

    Args:
        train: sequences to count in.
        held_out: sequences to predict.
        size: of the vocabulary.
        longest: largest n.
    """
    counts = collections.defaultdict(collections.Counter)
    for tokens in train:
        for place in range(1, len(tokens)):
            for n in range(min(longest, place + 1)):
                counts[tuple(tokens[place - n : place])][tokens[place]] += 1
    seen = {context: (found, found.total(), len(found)) for context, found in counts.items()}
    bits = np.zeros(longest)
    for tokens in held_out:
        for place in range(1, len(tokens)):
            p = 1 / size
            for n in range(longest):
                context = tuple(tokens[max(0, place - n) : place])
                if len(context) == n and context in seen:
                    found, count, types = seen[context]  # as `interpolate`, with the sum at hand
                    p = (found[tokens[place]] + types * p) / (count + types)
                bits[n] -= math.log2(p)
    return bits
