"""The word problem of a finite group: the product of a sequence of generators."""

import dataclasses
import functools
from typing import Literal, final, get_args

import numpy as np

from rnnjax.tasks.automaton import Automaton, Language, uniform

Group = Literal["S3", "A5"]
GENERATORS = {  # permutations as tuples p, with i -> p[i]
    "S3": ((1, 0, 2), (1, 2, 0)),
    "A5": ((1, 2, 0, 3, 4), (1, 2, 3, 4, 0)),
}


@final
@dataclasses.dataclass(frozen=True)
class WordProblem(Language):
    """Say at the last step which element of a group the product of the generators read so far is.

    The groups are S3, the six permutations of three things, with the generators (0 1) and (0 1 2);
    and A5, the 60 even permutations of five, with (0 1 2) and (0 1 2 3 4). Inputs `[T, B, 2]` are
    one-hot generators, uniform and independent. The product begins with the identity, class 0, and
    each generator acts after those before it. Targets `[T, B]` are the element, in the order in
    which a breadth-first search finds it, scored at the last step. Chance approaches ln 6 or ln 60.

    Keeping track of a product that depends on the order is what linear cells with diagonal factors
    cannot do, as for S3, while products of reflections can; A5 is not solvable, and no constant
    number of parallel layers is believed to do it at all lengths (Barrington 1989).
    Source: Merrill, Petty, Sabharwal 2024, "The illusion of state in state-space models",
    arXiv:2404.08819; Grazzi et al. 2024, arXiv:2411.12537. There the inputs are all elements of the
    group; here two generators, from which each follows.

    Args:
        length: T, at least 1.
        group: "S3" or "A5".
        shortest: as in `rnnjax.tasks.automaton.Language`.

    Raises:
        ValueError: `length` is not an integer or too small, or there is no such group.
    """

    length: int = 40
    group: Group = "S3"

    def __post_init__(self):
        Language.__post_init__(self)
        if self.group not in get_args(Group):
            raise ValueError(f"group must be S3 or A5, got {self.group!r}")

    def automaton(self) -> Automaton:
        """One state for each element."""
        successor = _products(self.group)
        return uniform(successor, np.arange(len(successor)))


@functools.cache
def _products(group):
    """Return the element that follows each element and generator, `[elements, 2]`."""
    generators = GENERATORS[group]
    found = {tuple(range(len(generators[0]))): 0}
    rows = []
    for element in (queue := [*found]):
        ahead = [tuple(g[i] for i in element) for g in generators]
        for other in ahead:
            if other not in found:
                found[other] = len(found)
                queue.append(other)
        rows.append([found[other] for other in ahead])
    return np.array(rows)
