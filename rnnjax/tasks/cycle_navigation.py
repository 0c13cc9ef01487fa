"""Cycle navigation: where a walk on a circle ends."""

import dataclasses
from typing import final

import numpy as np

from rnnjax.tasks.automaton import Automaton, Language, uniform
from rnnjax.tasks.base import check_integer


@final
@dataclasses.dataclass(frozen=True)
class CycleNavigation(Language):
    """Say at the last step where a walk on a circle of M places has ended.

    Inputs `[T, B, 3]` are one-hot steps, left, stay and right (-1, 0, 1), uniform and independent;
    targets `[T, B]` are the sum of the steps modulo M, scored at the last step. Chance approaches
    ln M as the walk mixes.
    Source: Deletang et al. 2023, "Neural networks and the Chomsky hierarchy", arXiv:2207.02098,
    where M = 5.

    Args:
        length: T, at least 1.
        places: M, at least 2.
        shortest: as in `rnnjax.tasks.automaton.Language`.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 40
    places: int = 5

    def __post_init__(self):
        Language.__post_init__(self)
        check_integer("places", self.places, 2)

    def automaton(self) -> Automaton:
        """M states: the place."""
        place = np.arange(self.places)
        return uniform((place[:, None] + np.array([-1, 0, 1])) % self.places, place)
