"""Go and anti tasks of Yang et al. 2019: respond at the stimulus, or opposite to it."""

import dataclasses
from typing import Any, ClassVar, NamedTuple, final

from jaxtyping import Array, Float, Int, PRNGKeyArray

from rnnjax.tasks.trials.base import Epoch
from rnnjax.tasks.trials.draws import draw_levels, index_at
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import bumps, columns, shown
from rnnjax.tasks.trials.yang2019 import YangTask, of_modality


class ReachConditions(NamedTuple):
    """What is drawn for a trial of a go or anti task."""

    response: Int[Array, "*B"]  # the unit at the right response's angle, 0 .. R - 1
    modality: Int[Array, "*B"]  # of the stimulus, 0 or 1


@dataclasses.dataclass(frozen=True)
class YangReach(YangTask):
    """Respond at the angle of a stimulus, turned by `turn` of a circle.

    The stimulus comes in one of both modalities, with even odds; its angle is uniform.

    Args:
        turn: from the stimulus to the response: 0 (go) or 1/2 (anti).

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    stimulus_epoch: ClassVar[str]

    sigma: int | float = 0.0
    turn: int | float = 0

    def check_conditions(self) -> None:
        YangTask.check_conditions(self)
        if self.turn not in (0, 0.5):
            raise ValueError(f"turn must be 0 or 0.5, got {self.turn!r}")

    def draw(self, key: PRNGKeyArray) -> ReachConditions:
        response, modality = draw_levels(key, 2)
        return ReachConditions(index_at(self.units, response), index_at(2, modality))

    def stimuli(self, conditions: ReachConditions, epochs: dict[str, Epoch]) -> Float[Array, "T D"]:
        location = (conditions.response - round(self.turn * self.units)) % self.units
        stimulus = shown(self.during(epochs, self.stimulus_epoch), bumps(self.units)[location])
        return columns(
            self.cue(epochs),
            of_modality(stimulus, conditions.modality),
            self.rule_units(epochs),
        )

    def answer(self, conditions: ReachConditions) -> Any:
        return 1 + conditions.response


@final
@dataclasses.dataclass(frozen=True)
class YangDelayedReach(YangReach):
    """Go, anti and their versions with a delay: respond when the fixation cue has gone.

    The cue is on until the decision epoch, the stimulus in its own; targets are 1 + response in the
    decision epoch, else 0. Inputs and source: see `rnnjax.tasks.trials.yang2019`.

    Args:
        fixation_ms, stimulus_ms, delay_ms, decision_ms: durations of the epochs.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "stimulus", "delay", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus",)
    stimulus_epoch: ClassVar[str] = "stimulus"

    cue_epochs: tuple[str, ...] = ("fixation", "stimulus", "delay")
    fixation_ms: Duration = 500
    stimulus_ms: Duration = 500
    delay_ms: Duration = 0
    decision_ms: Duration = 500


@final
@dataclasses.dataclass(frozen=True)
class YangReactionReach(YangReach):
    """RT go and RT anti: respond as soon as the stimulus comes, at the end of fixation.

    The cue is on in the fixation epoch, the stimulus in the decision epoch; targets are
    1 + response there, else 0. Inputs and source: see `rnnjax.tasks.trials.yang2019`.

    Args:
        fixation_ms, decision_ms: durations of the epochs.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("decision",)
    stimulus_epoch: ClassVar[str] = "decision"

    fixation_ms: Duration = 500
    decision_ms: Duration = 500
