"""Parametric working memory: which of two frequencies was higher?"""

import dataclasses
import math
import numbers
from typing import ClassVar, NamedTuple, final

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rnnjax.tasks.trials.base import Epoch, TrialTask
from rnnjax.tasks.trials.draws import draw_levels, index_at
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import columns


class FrequencyConditions(NamedTuple):
    """What is drawn for a trial of `ParametricWorkingMemory`."""

    first: Float[Array, "*B"]  # Hz
    second: Float[Array, "*B"]


@final
@dataclasses.dataclass(frozen=True)
class ParametricWorkingMemory(TrialTask):
    """Keep the frequency of a first stimulus, and say which of two was higher.

        stimulus in its epochs:    (1 + (f - f_min) / (f_max - f_min)) / 2 + noise

    Inputs `[T, B, 2]`: the fixation cue, 1 until the decision epoch, and the stimulus; in the
    epochs of the stimuli both have noise. Targets `[T, B]`: in the decision epoch 1 if the first
    frequency was higher, 2 if the second was; else 0. A pair (high, low) is drawn with equal odds,
    and so is its order.

    Source: Romo, Brody, Hernandez, Lemus 1999, "Neuronal correlates of parametric working memory in
    the prefrontal cortex"; inputs, pairs and timing are those of neurogym's DelayComparison.

    Args:
        fixation_ms, stimulus1_ms, delay_ms, stimulus2_ms, decision_ms: durations of the epochs.
        pairs: (high, low) in Hz.

    Raises:
        ValueError: an argument is out of range, or a pair is not (high, low); see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = (
        *("fixation", "stimulus1", "delay", "stimulus2", "decision"),
    )
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus1", "stimulus2")

    cue_epochs: tuple[str, ...] = ("fixation", "stimulus1", "delay", "stimulus2")
    fixation_ms: Duration = 500
    stimulus1_ms: Duration = 500
    delay_ms: Duration = 1000
    stimulus2_ms: Duration = 500
    decision_ms: Duration = 100
    pairs: tuple[tuple[int | float, int | float], ...] = (
        *((18, 10), (22, 14), (26, 18), (30, 22), (34, 26)),
    )

    def check_conditions(self) -> None:
        if not self.pairs:
            raise ValueError("pairs must hold at least one (high, low), got ()")
        for pair in self.pairs:
            real = len(pair) == 2 and all(isinstance(value, numbers.Real) for value in pair)
            if not real or not -math.inf < pair[1] < pair[0] < math.inf:
                raise ValueError(f"pairs must hold (high, low), two numbers each, got {pair!r}")

    @property
    def input_size(self) -> int:
        return 2

    @property
    def noisy_units(self) -> slice:
        return slice(None)

    @property
    def answers(self) -> tuple[float, ...]:
        return 0.0, 0.5, 0.5

    def draw(self, key: PRNGKeyArray) -> FrequencyConditions:
        pair, order = draw_levels(key, 2)
        chosen = jnp.array(self.pairs, jnp.float32)[index_at(len(self.pairs), pair)]
        return FrequencyConditions(*jnp.where(order < 0.5, chosen, chosen[::-1]))

    def stimuli(
        self, conditions: FrequencyConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        values = [value for pair in self.pairs for value in pair]
        low, width = min(values), max(values) - min(values)
        first, second = ((1 + (value - low) / width) / 2 for value in conditions)
        return columns(
            self.cue(epochs),
            jnp.where(self.during(epochs, "stimulus1"), first, 0)
            + jnp.where(self.during(epochs, "stimulus2"), second, 0),
        )

    def answer(self, conditions: FrequencyConditions) -> Int[Array, ""]:
        return jnp.where(conditions.first > conditions.second, 1, 2)
