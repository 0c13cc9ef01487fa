"""Perceptual decision making: which of several directions has more evidence?"""

import dataclasses
from typing import ClassVar, NamedTuple, final

from jaxtyping import Array, Float, Int, PRNGKeyArray

from rnnjax.tasks.base import check_integer
from rnnjax.tasks.trials.base import Epoch, TrialTask, check_numbers
from rnnjax.tasks.trials.draws import draw_levels, index_at, one_of
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import columns, cosines, shown


class PerceptualConditions(NamedTuple):
    """What is drawn for a trial of `PerceptualDecision`."""

    choice: Int[Array, "*B"]  # the right direction, 0 .. R - 1
    coherence: Float[Array, "*B"]  # percent


@final
@dataclasses.dataclass(frozen=True)
class PerceptualDecision(TrialTask):
    """Integrate noisy evidence, and choose the direction that has most of it.

        unit i in the stimulus epoch:    1/2 + coherence / 200 cos(theta_i - theta_choice) + noise

    Inputs `[T, B, 1 + R]`: the fixation cue, 1 in the fixation epoch, and R units on a ring.
    Targets `[T, B]`: 1 + choice in the decision epoch, else 0. Choice and coherence are uniform and
    independent. With two directions the difference of the units has mean coherence / 100 and
    variance 2 sigma^2 / dt in each step, so an ideal observer of n steps is right with probability
    Phi(coherence / 100 sqrt(n dt / 2) / sigma): .896 on average for the defaults. Therefore a run
    has succeeded at .85.

    Source: Britten, Shadlen, Newsome, Movshon 1992, "The analysis of visual motion"; inputs and
    timing are those of neurogym's PerceptualDecisionMaking.

    Args:
        fixation_ms, stimulus_ms, delay_ms, decision_ms: durations of the epochs.
        directions: R, at least 2.
        coherences: strengths of the evidence in percent.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "stimulus", "delay", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus",)

    criterion: int | float = 0.85
    fixation_ms: Duration = 100
    stimulus_ms: Duration = 2000
    delay_ms: Duration = 0
    decision_ms: Duration = 100
    directions: int = 2
    coherences: tuple[int | float, ...] = (0, 6.4, 12.8, 25.6, 51.2)

    def check_conditions(self) -> None:
        check_integer("directions", self.directions, 2)
        check_numbers("coherences", self.coherences, 0, 100)

    @property
    def input_size(self) -> int:
        return 1 + self.directions

    @property
    def answers(self) -> tuple[float, ...]:
        return (0.0,) + self.directions * (1 / self.directions,)

    def draw(self, key: PRNGKeyArray) -> PerceptualConditions:
        choice, coherence = draw_levels(key, 2)
        return PerceptualConditions(
            index_at(self.directions, choice), one_of(self.coherences, coherence)
        )

    def stimuli(
        self, conditions: PerceptualConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        tuning = cosines(self.directions)[conditions.choice]
        evidence = tuning * (conditions.coherence / 200) + 0.5
        stimulus = shown(self.during(epochs, "stimulus"), evidence)
        return columns(self.cue(epochs), stimulus)

    def answer(self, conditions: PerceptualConditions) -> Int[Array, ""]:
        return 1 + conditions.choice
