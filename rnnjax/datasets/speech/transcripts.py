"""Transcripts of spoken digits: their distances, and the best constant answer."""

import collections
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np


def edit_distance(one: Sequence, other: Sequence) -> int:
    """Return the least number of insertions, deletions and substitutions between two sequences.

    Source: Levenshtein 1966; Wagner, Fischer 1974, "The string-to-string correction problem".
    """
    above = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (a != b)))
        above = row
    return above[-1]


def error_rate(answers: Sequence[str], truths: Sequence[str]) -> float:
    """Return the sum of all edit distances over the number of symbols in the truths."""
    errors = [edit_distance(a, b) for a, b in zip(answers, truths, strict=True)]
    return sum(errors) / sum(len(truth) for truth in truths)


def best_constant(truths: Sequence[str]) -> str:
    """Return the string of at most two digits with the fewest errors, the first among equals."""
    counts = collections.Counter(truths)

    def errors(answer):
        return sum(count * edit_distance(answer, truth) for truth, count in counts.items())

    digits = "0123456789"
    return min(["", *digits, *map("".join, itertools.product(digits, digits))], key=errors)


def written(labels: Any) -> str:
    """Return the digits of labels, an array `[U]`; that of d is d + 1, and zeros are left out."""
    return "".join(str(label - 1) for label in np.asarray(labels).tolist() if label)


def error_rates(
    answers: Sequence[Sequence[str]], truths: Sequence[str], groups: Sequence[str]
) -> dict[str, float]:
    """Return the error rate within each group, over all networks.

    Args:
        answers: of each network to each recording, `[S][N]`.
        truths: what each recording says, `[N]`.
        groups: the group of each recording, such as its speaker, `[N]`.
    """
    rates = {}
    for group in sorted(set(groups)):
        rows = [i for i, other in enumerate(groups) if other == group]
        found = [own[i] for own in answers for i in rows]
        rates[group] = error_rate(found, [truths[i] for i in rows] * len(answers))
    return rates
