"""Decision tasks of Yang et al. 2019: respond at the stronger of two stimuli."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rnnjax.tasks.trials.base import Epoch, check_numbers
from rnnjax.tasks.trials.draws import draw_levels, index_at, one_of
from rnnjax.tasks.trials.durations import Duration, Uniform
from rnnjax.tasks.trials.rings import bumps, columns, shown
from rnnjax.tasks.trials.yang2019 import YangTask


class ComparisonConditions(NamedTuple):
    """What is drawn for a trial of a decision task."""

    first: Int[Array, "*B"]  # the unit at the first stimulus's angle, 0 .. R - 1
    second: Int[Array, "*B"]  # at the second's, another one
    strengths: Float[Array, "*B 2 2"]  # of (first, second) in each modality
    towards_first: Bool[Array, "*B"]  # whether the first is right; drawn if both are equally strong


@dataclasses.dataclass(frozen=True)
class YangComparison(YangTask):
    """Respond at the angle whose stimulus is stronger, summed over the modalities that count.

    Where two modalities count, their sums can be equal: with the default coherences in 1/8 of the
    trials of Multi DM and 1/6 of those of Multi Dly DM. Then the right one is drawn with even odds.

    Args:
        shown: the modalities in which there are stimuli.
        relevant: those of them that count.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    stimulus_epochs: ClassVar[tuple[str, str]]

    rule: str = "multidm"
    criterion: int | float = 0.85
    shown: tuple[int, ...] = (0, 1)
    relevant: tuple[int, ...] = (0, 1)
    coherences: tuple[int | float, ...] = (0.08, 0.16, 0.32, 0.64)

    def check_conditions(self) -> None:
        YangTask.check_conditions(self)
        for name, allowed in (("shown", {0, 1}), ("relevant", set(self.shown))):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values) or not set(values) <= allowed:
                some = ", ".join(map(str, sorted(allowed)))
                raise ValueError(f"{name} must hold some of {some}, each once, got {values!r}")
        check_numbers("coherences", self.coherences, 0, 1)

    @abc.abstractmethod
    def strengths_at(self, levels: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """Return the strengths of both stimuli in one modality, from two levels."""

    def draw(self, key: PRNGKeyArray) -> ComparisonConditions:
        levels = draw_levels(key, 7)
        first, turn = index_at(self.units, levels[0]), 1 + index_at(self.units - 1, levels[1])
        strengths = jnp.stack([self.strengths_at(levels[3:5]), self.strengths_at(levels[5:])], 1)
        strengths *= np.array([m in self.shown for m in (0, 1)], np.float32)
        total = strengths @ np.array([m in self.relevant for m in (0, 1)], np.float32)
        difference = total[0] - total[1]
        even = jnp.abs(difference) < 1e-6  # a sum's rounding is less, any true difference more
        towards_first = jnp.where(even, levels[2] < 0.5, difference > 0)
        return ComparisonConditions(first, (first + turn) % self.units, strengths, towards_first)

    def stimuli(
        self, conditions: ComparisonConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        tuning, places = bumps(self.units), (conditions.first, conditions.second)
        parts = [
            shown(self.during(epochs, name), jnp.outer(strength, tuning[place]).ravel())
            for name, strength, place in zip(
                self.stimulus_epochs, conditions.strengths, places, strict=True
            )
        ]
        return columns(self.cue(epochs), sum(parts), self.rule_units(epochs))

    def answer(self, conditions: ComparisonConditions) -> Any:
        return 1 + jnp.where(conditions.towards_first, conditions.first, conditions.second)


@final
@dataclasses.dataclass(frozen=True)
class YangDecision(YangComparison):
    """DM 1, DM 2, Ctx DM 1, Ctx DM 2 and Multi DM: two stimuli at a time.

        strengths in each modality:    1/2 +- c / 2,    c from `coherences`, its sign with even odds

    The cue is on in the fixation epoch only; targets are 1 + the stronger one's unit in the
    decision epoch, else 0. Inputs and source: see `rnnjax.tasks.trials.yang2019`.

    Args:
        fixation_ms, stimulus_ms, decision_ms: durations of the epochs.
        coherences: differences of strength, in [0, 1].

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "stimulus", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus",)
    stimulus_epochs: ClassVar[tuple[str, str]] = ("stimulus", "stimulus")

    fixation_ms: Duration = Uniform(200, 500)
    stimulus_ms: Duration = 500
    decision_ms: Duration = 200

    def strengths_at(self, levels: Float[Array, " 2"]) -> Float[Array, " 2"]:
        half = one_of(self.coherences, levels[0]) / 2
        half = jnp.where(levels[1] < 0.5, half, -half)
        return jnp.stack([0.5 + half, 0.5 - half])


@final
@dataclasses.dataclass(frozen=True)
class YangDelayedDecision(YangComparison):
    """Dly DM 1, Dly DM 2, Ctx Dly DM 1, Ctx Dly DM 2 and Multi Dly DM: one stimulus after another.

    Strengths in each modality are two different ones of `coherences`. The cue is on in the fixation
    epoch only; targets are 1 + the stronger one's unit in the decision epoch, else 0. Inputs and
    source: see `rnnjax.tasks.trials.yang2019`.

    Args:
        fixation_ms, stimulus1_ms, delay_ms, stimulus2_ms, decision_ms: durations of the epochs.
        coherences: strengths, in [0, 1]; at least two.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = (
        *("fixation", "stimulus1", "delay", "stimulus2", "decision"),
    )
    noisy_epochs: ClassVar[tuple[str, ...]] = ("stimulus1", "stimulus2")
    stimulus_epochs: ClassVar[tuple[str, str]] = ("stimulus1", "stimulus2")

    rule: str = "multidlydm"
    coherences: tuple[int | float, ...] = (0.3, 0.6, 1.0)
    fixation_ms: Duration = Uniform(200, 500)
    stimulus1_ms: Duration = 500
    delay_ms: Duration = 1000
    stimulus2_ms: Duration = 500
    decision_ms: Duration = 200

    def check_conditions(self) -> None:
        YangComparison.check_conditions(self)
        if len(set(self.coherences)) < max(2, len(self.coherences)):
            raise ValueError(
                f"coherences must hold at least two different strengths, got {self.coherences!r}"
            )

    def strengths_at(self, levels: Float[Array, " 2"]) -> Float[Array, " 2"]:
        count = len(self.coherences)
        first, turn = index_at(count, levels[0]), 1 + index_at(count - 1, levels[1])
        return jnp.array(self.coherences, jnp.float32)[jnp.stack([first, (first + turn) % count])]
