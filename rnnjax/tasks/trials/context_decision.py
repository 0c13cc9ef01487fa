"""Context-dependent decisions: two modalities, of which a cue makes one count."""

import dataclasses
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rnnjax.tasks.base import check_integer
from rnnjax.tasks.trials.base import Epoch, TrialTask, check_numbers
from rnnjax.tasks.trials.draws import draw_levels, index_at, one_of
from rnnjax.tasks.trials.durations import Duration, TruncatedExponential
from rnnjax.tasks.trials.rings import columns, cosines, shown


class ContextConditions(NamedTuple):
    """What is drawn for a trial of `ContextDecision`."""

    context: Int[Array, "*B"]  # the modality that counts, 0 or 1
    choice_1: Int[Array, "*B"]  # the direction of the first modality, 0 .. R - 1
    choice_2: Int[Array, "*B"]  # of the second
    coherence_1: Float[Array, "*B"]  # of the first modality, percent
    coherence_2: Float[Array, "*B"]  # of the second


@final
@dataclasses.dataclass(frozen=True)
class ContextDecision(TrialTask):
    """Choose the direction of the modality that the context names, and ignore the other.

        modality m, unit i:    1/2 + coherence_m / 200 cos(theta_i - theta_choice_m) + noise

    Inputs `[T, B, 3 + 2R]`: the fixation cue, 1 until the decision epoch; R units of each modality,
    silent outside the stimulus epoch; and a unit for each context, 1 during the whole trial.
    Targets `[T, B]`: 1 + choice of the modality that counts in the decision epoch, else 0. Context,
    directions and coherences are uniform and independent.

    Source: Mante, Sussillo, Shenoy, Newsome 2013, "Context-dependent computation by recurrent
    dynamics in prefrontal cortex"; inputs and timing are those of neurogym's ContextDecisionMaking
    with an explicit context. There the cue ends with the fixation epoch, so that nothing tells when
    the random delay is over: `cue_epochs=("fixation",)` does the same.

    Args:
        fixation_ms, stimulus_ms, delay_ms, decision_ms: durations of the epochs.
        directions: R, at least 2.
        coherences: strengths of the evidence of each modality in percent.
        contexts: the contexts to draw from, (0, 1) or one of them.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "stimulus", "delay", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus",)

    criterion: int | float = 0.85
    cue_epochs: tuple[str, ...] = ("fixation", "stimulus", "delay")
    fixation_ms: Duration = 300
    stimulus_ms: Duration = 750
    delay_ms: Duration = TruncatedExponential(600, 300, 3000)
    decision_ms: Duration = 100
    directions: int = 2
    coherences: tuple[int | float, ...] = (5, 15, 50)
    contexts: tuple[int, ...] = (0, 1)

    def check_conditions(self) -> None:
        check_integer("directions", self.directions, 2)
        check_numbers("coherences", self.coherences, 0, 100)
        if self.contexts not in ((0, 1), (0,), (1,)):
            raise ValueError(f"contexts must be (0, 1), (0,) or (1,), got {self.contexts!r}")

    @property
    def input_size(self) -> int:
        return 3 + 2 * self.directions

    @property
    def noisy_units(self) -> slice:
        return slice(1, 1 + 2 * self.directions)

    @property
    def answers(self) -> tuple[float, ...]:
        return (0.0,) + self.directions * (1 / self.directions,)

    def draw(self, key: PRNGKeyArray) -> ContextConditions:
        context, *choices, first, second = draw_levels(key, 5)
        contexts = jnp.array(self.contexts, jnp.int32)
        return ContextConditions(
            contexts[index_at(len(self.contexts), context)],
            *(index_at(self.directions, level) for level in choices),
            *(one_of(self.coherences, level) for level in (first, second)),
        )

    def stimuli(
        self, conditions: ContextConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        tuning = cosines(self.directions)
        first = tuning[conditions.choice_1] * (conditions.coherence_1 / 200) + 0.5
        second = tuning[conditions.choice_2] * (conditions.coherence_2 / 200) + 0.5
        stimulus = shown(self.during(epochs, "stimulus"), jnp.concatenate([first, second]))
        context = jax.nn.one_hot(conditions.context, 2, dtype=jnp.float32)
        return columns(
            self.cue(epochs),
            stimulus,
            shown(self.during(epochs, *self.epoch_names), context),
        )

    def answer(self, conditions: ContextConditions) -> Int[Array, ""]:
        return 1 + jnp.where(conditions.context == 0, conditions.choice_1, conditions.choice_2)
