"""Even pairs: whether the number of changes in a binary string is odd."""

import dataclasses
from typing import final

import numpy as np

from rnnjax.tasks.automaton import Automaton, Language, uniform


@final
@dataclasses.dataclass(frozen=True)
class EvenPairs(Language):
    """Say at the last step whether a binary string has an odd number of pairs 01 and 10.

    Inputs `[T, B, 2]` are one-hot bits, uniform and independent; targets `[T, B]` are 0 (even) or 1
    (odd), scored at the last step. It is odd exactly if the first bit and the last one differ, so
    one bit has to be remembered. Chance is ln 2 from two steps on.
    Source: Deletang et al. 2023, "Neural networks and the Chomsky hierarchy", arXiv:2207.02098.

    Args:
        length: T, at least 1.
        shortest: as in `rnnjax.tasks.automaton.Language`.

    Raises:
        ValueError: `length` is not an integer or too small.
    """

    length: int = 40

    def automaton(self) -> Automaton:
        """State 0 is the start, 1 + 2 f + l has the first bit f and the last bit l."""
        successor = np.array([[1, 4], [1, 2], [1, 2], [3, 4], [3, 4]])
        return uniform(successor, [0, 0, 1, 1, 0])
