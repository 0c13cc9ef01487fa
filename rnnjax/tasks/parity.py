"""Parity: whether the number of ones is odd."""

import dataclasses
from typing import final

import numpy as np

from rnnjax.tasks.automaton import Automaton, Language, uniform


@final
@dataclasses.dataclass(frozen=True)
class Parity(Language):
    """Say at the last step whether a binary string has an odd number of ones.

    Inputs `[T, B, 2]` are one-hot bits, uniform and independent; targets `[T, B]` are 0 (even) or 1
    (odd), scored at the last step. Chance is ln 2.

    Every bit counts, so the answer is no average of the inputs: a cell whose next state is linear
    in the state with factors in (0, 1) cannot do it at all lengths, and one with negative factors
    can (Grazzi et al. 2024, arXiv:2411.12537).
    Source: Deletang et al. 2023, "Neural networks and the Chomsky hierarchy", arXiv:2207.02098
    (parity check), where networks are trained at lengths 1 to 40 and tested at up to 500.

    Args:
        length: T, at least 1.
        shortest: as in `rnnjax.tasks.automaton.Language`.

    Raises:
        ValueError: `length` is not an integer or too small.
    """

    length: int = 40

    def automaton(self) -> Automaton:
        """Two states: the parity so far."""
        return uniform(np.array([[0, 1], [1, 0]]), [0, 1])
