"""Random feedback local online learning: eligibility traces that decay at one rate."""

import dataclasses

from rnnjax.online import local
from rnnjax.online.influence import Influence


@dataclasses.dataclass(frozen=True)
class RFLO(Influence):
    """e' = decay e + df/dtheta.

    The recurrent kernel's part of the Jacobian is left out, and each unit is taken for one that
    leaks: exact for the gradient of a rate network (`cells.Rate`, decay = 1 - alpha) whose
    recurrent path is cut. Random feedback is that of the readout: `online.random_feedback`.
    Source: Murray 2019, "Local online learning in recurrent networks with random feedback", eLife
    8, e43299.

    Args:
        decay: of an eligibility trace in a step, from 0 to 1.

    Raises:
        ValueError: `decay` is not within 0 and 1.
        TypeError: a parameter of the cell enters the state of several units.
    """

    decay: float

    def __post_init__(self):
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be from 0 to 1, got {self.decay}")

    def is_local(self, cell, example):
        """Return True, or raise the TypeError."""
        return local.check(self, cell, example)

    def advance(self, cell, step, example, traces):
        """Return e'."""
        return self.decay * traces + local.immediate(cell, example, step)
