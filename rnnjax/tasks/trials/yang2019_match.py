"""Matching tasks of Yang et al. 2019: respond at the test if it matches the sample, or if not."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rnnjax.tasks.trials.base import Epoch
from rnnjax.tasks.trials.draws import draw_levels, index_at
from rnnjax.tasks.trials.durations import Duration
from rnnjax.tasks.trials.rings import bumps, columns, shown
from rnnjax.tasks.trials.yang2019 import YangTask, of_modality


class YangMatchConditions(NamedTuple):
    """What is drawn for a trial of a matching task."""

    match: Bool[Array, "*B"]
    sample: Int[Array, "*B"]  # the unit at the sample's angle, 0 .. R - 1
    test: Int[Array, "*B"]  # at the test's
    modality: Int[Array, "*B"]  # of both, 0 or 1


@dataclasses.dataclass(frozen=True)
class YangMatch(YangTask):
    """Respond at the test's angle if sample and test match, or if they do not; else fixate.

    Both cases have even odds, as have the modalities; the sample's angle is uniform. The cue is on
    in the fixation epoch only. Targets are in the decision epoch 1 + the test's unit or, on trials
    without a response, 0; before, 0.

    Args:
        respond_to: whether a match or a mismatch asks for a response: "match" or "mismatch".
        fixation_ms, sample_ms, delay_ms, test_ms, decision_ms: durations of the epochs.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "sample", "delay", "test", "decision")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("sample", "test")

    rule: str = "dms"
    respond_to: str = "match"
    fixation_ms: Duration = 300
    sample_ms: Duration = 500
    delay_ms: Duration = 1000
    test_ms: Duration = 500
    decision_ms: Duration = 900

    def check_conditions(self) -> None:
        YangTask.check_conditions(self)
        if self.respond_to not in ("match", "mismatch"):
            raise ValueError(f"respond_to must be match or mismatch, got {self.respond_to!r}")

    @property
    def answers(self) -> tuple[float, ...]:
        return (0.5,) + self.units * (0.5 / self.units,)

    @abc.abstractmethod
    def test_at(self, level: Any, sample: Any, match: Any) -> Int[Array, ""]:
        """Return the unit at the test's angle, from a level."""

    def draw(self, key: PRNGKeyArray) -> YangMatchConditions:
        match, sample, test, modality = draw_levels(key, 4)
        match, sample = match < 0.5, index_at(self.units, sample)
        test = self.test_at(test, sample, match)
        return YangMatchConditions(match, sample, test, index_at(2, modality))

    def stimuli(
        self, conditions: YangMatchConditions, epochs: dict[str, Epoch]
    ) -> Float[Array, "T D"]:
        tuning = bumps(self.units)
        stimulus = shown(self.during(epochs, "sample"), tuning[conditions.sample])
        stimulus += shown(self.during(epochs, "test"), tuning[conditions.test])
        return columns(
            self.cue(epochs),
            of_modality(stimulus, conditions.modality),
            self.rule_units(epochs),
        )

    def answer(self, conditions: YangMatchConditions) -> Any:
        respond = conditions.match == (self.respond_to == "match")
        return jnp.where(respond, 1 + conditions.test, 0)


@final
@dataclasses.dataclass(frozen=True)
class YangMatchToSample(YangMatch):
    """DMS and DNMS: a match has the sample's angle, a mismatch the opposite one.

    Inputs and source: see `rnnjax.tasks.trials.yang2019`; arguments: see `YangMatch`.
    """

    def test_at(self, level: Any, sample: Any, match: Any) -> Int[Array, ""]:
        return jnp.where(match, sample, (sample + self.units // 2) % self.units)


@final
@dataclasses.dataclass(frozen=True)
class YangMatchToCategory(YangMatch):
    """DMC and DNMC: a match is on the sample's side of the circle, [0, pi) or [pi, 2 pi).

    The test is uniform over its side. neurogym counts a sample at pi to the first side, and a test
    at pi to the second; here pi is on the second side for both. Inputs and source: see
    `rnnjax.tasks.trials.yang2019`; arguments: see `YangMatch`.
    """

    rule: str = "dmc"

    def test_at(self, level: Any, sample: Any, match: Any) -> Int[Array, ""]:
        half = self.units // 2
        second = (sample >= half) == match
        return index_at(half, level) + half * second
