"""Delayed match to category: are two angles on the same side of a boundary?"""

import dataclasses
import math
from typing import ClassVar, NamedTuple, final

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rnnjax.tasks.base import check_integer
from rnnjax.tasks.trials.base import Epoch, TrialTask
from rnnjax.tasks.trials.draws import draw_levels
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import angles, columns, shown


class CategoryConditions(NamedTuple):
    """What is drawn for a trial of `DelayedMatchToCategory`."""

    sample_angle: Float[Array, "*B"]  # in [0, 2 pi)
    test_angle: Float[Array, "*B"]


@final
@dataclasses.dataclass(frozen=True)
class DelayedMatchToCategory(TrialTask):
    """Say at the test whether it is of the sample's category, [0, pi) or [pi, 2 pi).

        unit i in the sample and test epochs:    1/2 + 1/2 cos(theta_i - theta) + noise

    Inputs `[T, B, 1 + R]`: the fixation cue, 1 until the test epoch, and R units on a ring. Targets
    `[T, B]`: in the test epoch 1 for a match, 2 for none; else 0. Both angles are uniform and
    independent, so both answers have even odds. With R = 2, neurogym's default, the units tell the
    cosine only, which does not say the category; 8 is this library's default.

    Source: Freedman & Assad 2006, "Experience-dependent representation of visual categories in
    parietal cortex"; inputs and timing are those of neurogym's DelayMatchCategory.

    Args:
        fixation_ms, sample_ms, delay_ms, test_ms: durations of the epochs.
        units: R, at least 2.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "sample", "delay", "test")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("sample", "test")

    criterion: int | float = 0.85
    cue_epochs: tuple[str, ...] = ("fixation", "sample", "delay")
    fixation_ms: Duration = 500
    sample_ms: Duration = 650
    delay_ms: Duration = 1000
    test_ms: Duration = 650
    units: int = 8

    def check_conditions(self) -> None:
        check_integer("units", self.units, 2)

    @property
    def input_size(self) -> int:
        return 1 + self.units

    @property
    def answers(self) -> tuple[float, ...]:
        return 0.0, 0.5, 0.5

    def draw(self, key: PRNGKeyArray) -> CategoryConditions:
        return CategoryConditions(*(2 * math.pi * draw_levels(key, 2)))

    def stimuli(
        self, conditions: CategoryConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        theta = jnp.asarray(angles(self.units), jnp.float32)
        sample = jnp.cos(theta - conditions.sample_angle) / 2 + 0.5
        test = jnp.cos(theta - conditions.test_angle) / 2 + 0.5
        return columns(
            self.cue(epochs),
            shown(self.during(epochs, "sample"), sample) + shown(self.during(epochs, "test"), test),
        )

    def answer(self, conditions: CategoryConditions) -> Int[Array, ""]:
        same = (conditions.sample_angle < math.pi) == (conditions.test_angle < math.pi)
        return jnp.where(same, 1, 2)
