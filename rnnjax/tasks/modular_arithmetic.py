"""Modular arithmetic: the value of an expression without brackets."""

import dataclasses
from typing import final

import numpy as np

from rnnjax.tasks.automaton import Automaton, Language
from rnnjax.tasks.base import check_integer


@final
@dataclasses.dataclass(frozen=True)
class ModularArithmetic(Language):
    """Say at the last step the value of an expression of numbers, +, - and *, modulo M.

    Numbers 0 .. M - 1 and operators alternate, each uniform and independent; * binds before + and
    -. With M = 5, 1 + 2 * 3 is 2, and 1 - 1 - 1 is 4. Inputs `[T, B, M + 3]` are one-hot: the
    numbers, then +, -, *. T is the largest odd number up to `length`. Targets `[T, B]` are the
    value, scored at the last step. Chance is somewhat below ln M, because 0 is the most frequent.
    Source: Deletang et al. 2023, "Neural networks and the Chomsky hierarchy", arXiv:2207.02098
    (modular arithmetic, simple), where M = 5.

    Args:
        length: of the expression; rounded down to an odd number. At least 1.
        modulus: M, at least 2.
        shortest: as in `rnnjax.tasks.automaton.Language`.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 40
    modulus: int = 5

    def __post_init__(self):
        Language.__post_init__(self)
        check_integer("modulus", self.modulus, 2)

    @property
    def total_length(self) -> int:
        """T, odd."""
        return self.length - 1 + self.length % 2

    def automaton(self) -> Automaton:
        """The sum of the finished terms, and the current term without and with its next factor.

        State (0, s, c) waits for a number n, which leads to (1, s, c n); (1, s, t) for an operator,
        which leads to (0, s + t, 1), (0, s + t, -1) or (0, s, t). It has the value s + t.
        """
        m = self.modulus
        count = 2 * m * m
        successor, odds = np.zeros((count, m + 3), np.int32), np.zeros((count, m + 3))
        label = np.zeros(count, np.int32)

        def state(after_number, total, term):  # the start, (0, 0, 1), comes first
            return after_number * m * m + total % m * m + (term - 1) % m

        for total in range(m):
            for term in range(m):
                before, after = state(0, total, term), state(1, total, term)
                successor[before, :m] = [state(1, total, term * n) for n in range(m)]
                odds[before, :m] = 1 / m
                successor[after, m:] = [
                    state(0, total + term, 1),
                    state(0, total + term, -1),
                    state(0, total, term),
                ]
                odds[after, m:] = 1 / 3
                label[after] = (total + term) % m
        return Automaton(successor, odds, label)
