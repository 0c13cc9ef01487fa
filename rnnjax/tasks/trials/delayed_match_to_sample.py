"""Delayed match to sample: is the test the sample, or its opposite?"""

import dataclasses
from typing import ClassVar, NamedTuple, final

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rnnjax.tasks.trials.base import Epoch, TrialTask
from rnnjax.tasks.trials.draws import draw_levels, index_at
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import check_even, columns, cosines, shown


class MatchConditions(NamedTuple):
    """What is drawn for a trial of `DelayedMatchToSample`."""

    match: Bool[Array, "*B"]
    sample: Int[Array, "*B"]  # the unit at the sample's angle, 0 .. R - 1


@final
@dataclasses.dataclass(frozen=True)
class DelayedMatchToSample(TrialTask):
    """Say after a delay whether the test has the angle of the sample or the opposite one.

        unit i in the sample and test epochs:    1/2 + 1/2 cos(theta_i - theta) + noise

    Inputs `[T, B, 1 + R]`: the fixation cue, 1 until the decision epoch, and R units on a ring.
    Targets `[T, B]`: in the decision epoch 1 for a match, 2 for none; else 0. Both have even odds,
    and the sample is uniform over the R angles.

    Source: Miller, Erickson, Desimone 1996, "Neural mechanisms of visual working memory in
    prefrontal cortex of the macaque"; inputs and timing are those of neurogym's DelayMatchSample.

    Args:
        fixation_ms, sample_ms, delay_ms, test_ms, decision_ms: durations of the epochs.
        units: R, even.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "sample", "delay", "test", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("sample", "test")

    cue_epochs: tuple[str, ...] = ("fixation", "sample", "delay", "test")
    fixation_ms: Duration = 300
    sample_ms: Duration = 500
    delay_ms: Duration = 1000
    test_ms: Duration = 500
    decision_ms: Duration = 900
    units: int = 2

    def check_conditions(self) -> None:
        check_even("units", self.units)

    @property
    def input_size(self) -> int:
        return 1 + self.units

    @property
    def answers(self) -> tuple[float, ...]:
        return 0.0, 0.5, 0.5

    def draw(self, key: PRNGKeyArray) -> MatchConditions:
        match, sample = draw_levels(key, 2)
        return MatchConditions(match < 0.5, index_at(self.units, sample))

    def stimuli(self, conditions: MatchConditions, epochs: dict[str, Epoch]) -> Float[Array, "T D"]:
        tuning = cosines(self.units)[conditions.sample] / 2
        opposite = jnp.where(conditions.match, tuning, -tuning)
        return columns(
            self.cue(epochs),
            shown(self.during(epochs, "sample"), tuning + 0.5)
            + shown(self.during(epochs, "test"), opposite + 0.5),
        )

    def answer(self, conditions: MatchConditions) -> Int[Array, ""]:
        return jnp.where(conditions.match, 1, 2)
