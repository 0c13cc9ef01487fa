"""Multisensory integration: one decision from the evidence of two modalities."""

import dataclasses
from typing import ClassVar, NamedTuple, final

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rnnjax.tasks.base import check_integer
from rnnjax.tasks.trials.base import Epoch, TrialTask, check_numbers
from rnnjax.tasks.trials.draws import draw_levels, index_at, one_of
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import columns, cosines, shown


class MultisensoryConditions(NamedTuple):
    """What is drawn for a trial of `MultisensoryDecision`."""

    choice: Int[Array, "*B"]  # the right direction, 0 .. R - 1
    coherence: Float[Array, "*B"]  # of both modalities together, percent
    share: Float[Array, "*B"]  # of it in the first modality, in [0, 1)


@final
@dataclasses.dataclass(frozen=True)
class MultisensoryDecision(TrialTask):
    """Choose the direction to which two modalities point, from the sum of their evidence.

        modality m, unit i:    1/2 + c_m / 200 cos(theta_i - theta_choice) + noise
        c_1 = share coherence,    c_2 = (1 - share) coherence,    share uniform over [0, 1)

    Inputs `[T, B, 1 + 2R]`: the fixation cue, 1 until the decision epoch, then R units of each
    modality, silent outside the stimulus epoch; in that epoch every input has noise, also the cue.
    Targets `[T, B]`: 1 + choice in the decision epoch, else 0.

    Source: neurogym's MultiSensoryIntegration, which follows Song, Yang, Wang 2016, "Training
    excitatory-inhibitory recurrent neural networks for cognitive tasks", and Raposo, Kaufman,
    Churchland 2014. Raposo's modalities are shown alone, too.

    Args:
        fixation_ms, stimulus_ms, decision_ms: durations of the epochs.
        directions: R, at least 2.
        coherences: summed strengths of the evidence in percent.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "stimulus", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus",)

    criterion: int | float = 0.85
    cue_epochs: tuple[str, ...] = ("fixation", "stimulus")
    fixation_ms: Duration = 300
    stimulus_ms: Duration = 750
    decision_ms: Duration = 100
    directions: int = 2
    coherences: tuple[int | float, ...] = (5, 15, 50)

    def check_conditions(self) -> None:
        check_integer("directions", self.directions, 2)
        check_numbers("coherences", self.coherences, 0, 100)

    @property
    def input_size(self) -> int:
        return 1 + 2 * self.directions

    @property
    def noisy_units(self) -> slice:
        return slice(None)

    @property
    def answers(self) -> tuple[float, ...]:
        return (0.0,) + self.directions * (1 / self.directions,)

    def draw(self, key: PRNGKeyArray) -> MultisensoryConditions:
        choice, coherence, share = draw_levels(key, 3)
        return MultisensoryConditions(
            index_at(self.directions, choice), one_of(self.coherences, coherence), share
        )

    def stimuli(
        self, conditions: MultisensoryConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        tuning = cosines(self.directions)[conditions.choice] / 200
        first = tuning * conditions.coherence * conditions.share + 0.5
        second = tuning * conditions.coherence * (1 - conditions.share) + 0.5
        stimulus = shown(self.during(epochs, "stimulus"), jnp.concatenate([first, second]))
        return columns(self.cue(epochs), stimulus)

    def answer(self, conditions: MultisensoryConditions) -> Int[Array, ""]:
        return 1 + conditions.choice
