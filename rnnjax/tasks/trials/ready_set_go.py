"""Ready, set, go: measure an interval, and produce it again."""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rnnjax.tasks.trials.base import Epoch, Trials, TrialTask, within
from rnnjax.tasks.trials.durations import Duration, Uniform, step_table
from rnnjax.tasks.trials.rings import columns


class NoConditions(NamedTuple):
    """Trials of `ReadySetGo` differ in their epochs alone."""


@final
@dataclasses.dataclass(frozen=True)
class ReadySetGo(TrialTask):
    """Go as long after the set cue as that came after the ready cue, times a gain.

        epoch        fixation | measure, of which the first part is ready | set | production
        steps                   m, random                                         floor(2 gain m)
        target       0          0                                           0     1 once, at gain m

    Inputs `[T, B, 3]`: the fixation cue, 1 until production, the ready cue and the set cue, each 1
    in its epoch. Targets `[T, B]`: 1 (go) at the one step floor(gain m) of the production epoch,
    else 0. As in neurogym, the interval to produce begins where the set epoch ends, and its
    reference is the one from the onset of ready to the onset of set. Only that step counts as go in
    the loss; a trial is right if the network's first go in the production epoch is at most
    `margin` gain m + 25 ms from it, neurogym's margin of reward.

    Source: Remington, Narain, Hosseini, Jazayeri 2018, "Flexible sensorimotor computations through
    rapid reconfiguration of cortical dynamics"; neurogym's ReadySetGo.

    Args:
        fixation_ms, ready_ms, measure_ms, set_ms: durations of the epochs.
        gain: the interval to produce in units of the measured one.
        margin: the tolerance, in units of the interval to produce.

    Raises:
        ValueError: an argument is out of range, ready can last longer than measure, or the interval
            to produce can be less than a step; see also `TrialTask`.
    """

    epoch_names: ClassVar[tuple[str, ...]] = ("fixation", "ready", "measure", "set", "production")
    noisy_epochs: ClassVar[tuple[str, ...]] = ("fixation", "measure", "set", "production")

    dt: int | float = 80
    sigma: int | float = 0.0
    cue_epochs: tuple[str, ...] = ("fixation", "measure", "set")
    fixation_ms: Duration = 100
    ready_ms: Duration = 83
    measure_ms: Duration = Uniform(800, 1500)
    set_ms: Duration = 83
    gain: int | float = 1.0
    margin: int | float = 0.2

    def check_conditions(self) -> None:
        if self.cue_epochs != (
            "fixation",
            "measure",
            "set",
        ):  # `correct` reads the production epoch from the cue
            raise ValueError(
                f"cue_epochs of ReadySetGo must be fixation, measure, set, got {self.cue_epochs!r}"
            )
        for name in ("gain", "margin"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or not 0 < float(value) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        shortest = int(step_table(self.measure_ms, self.dt)[0][0])
        if int(step_table(self.ready_ms, self.dt)[0][-1]) > shortest:
            raise ValueError(
                f"ready_ms must be at most the shortest measure_ms, {shortest} steps of dt = "
                f"{self.dt} ms, got {self.ready_ms!r}"
            )
        if self.gain * shortest < 1:
            raise ValueError(
                f"measure_ms times the gain {self.gain} must be at least a step of dt = "
                f"{self.dt} ms, got {self.measure_ms!r}"
            )

    @property
    def durations(self) -> dict[str, Duration]:
        names = self.epoch_names[:-1]
        return {name: getattr(self, f"{name}_ms") for name in names}

    @property
    def input_size(self) -> int:
        return 3

    @property
    def answers(self) -> tuple[float, ...]:
        return 0.0, 1.0

    def place(self, steps: Mapping[str, Any]) -> dict[str, Epoch]:
        """Return the epochs: ready is the beginning of measure."""
        fixation = Epoch(steps["fixation"] * 0, steps["fixation"])
        measure = Epoch(fixation.end, fixation.end + steps["measure"])
        ready = Epoch(measure.start, measure.start + steps["ready"])
        cue = Epoch(measure.end, measure.end + steps["set"])
        production = Epoch(cue.end, cue.end + scaled(2 * self.gain, steps["measure"]))
        return {
            "fixation": fixation,
            "ready": ready,
            "measure": measure,
            "set": cue,
            "production": production,
        }

    def answer_steps(self, epochs: Mapping[str, Epoch]) -> Any:
        """Return the step of the go."""
        measured = epochs["measure"].end - epochs["measure"].start
        go = epochs["production"].start + scaled(self.gain, measured)
        return within(Epoch(go, go + 1), self.total_length)

    def draw(self, key: PRNGKeyArray) -> NoConditions:
        return NoConditions()

    def stimuli(self, conditions: NoConditions, epochs: dict[str, Epoch]) -> Float[Array, "T D"]:
        return columns(
            self.cue(epochs),
            self.during(epochs, "ready"),
            self.during(epochs, "set"),
        )

    def answer(self, conditions: NoConditions) -> Int[Array, ""]:
        return jnp.asarray(1, jnp.int32)

    def trials_of(self, intervals: Sequence[int] | np.ndarray) -> Trials:
        """Return one trial without noise for each interval to measure, in steps.

        Raises:
            ValueError: another epoch is random, or an interval is not one that can be drawn.
        """
        tables = {name: step_table(d, self.dt)[0] for name, d in self.durations.items()}
        possible = tables.pop("measure").tolist()
        if not set(np.asarray(intervals).tolist()) <= set(possible):
            raise ValueError(f"intervals must be some of {possible} steps, got {intervals!r}")
        for name, steps in tables.items():
            if len(steps) > 1:
                raise ValueError(f"{name}_ms must be one number, got {self.durations[name]!r}")

        def build(measured):
            fixed = {name: jnp.asarray(steps[0]) for name, steps in tables.items()}
            epochs = self.place(fixed | {"measure": measured})
            return Trials(self.build(NoConditions(), epochs), NoConditions(), epochs)

        axes = Trials(1, 0, 0)  # pyright: ignore
        return jax.vmap(build, out_axes=axes)(jnp.asarray(intervals, jnp.int32))

    def correct(self, outputs: Float[Array, "T B O"], batch: Any) -> Bool[Array, " B"]:
        """Return whether the first go after the set cue comes close enough to its time.

        The production epoch is where the fixation cue, which has no noise, is off.
        """
        self.hits(outputs, batch)  # checks the shape
        due = batch.targets.argmax(axis=0)
        production = batch.mask & (batch.inputs[..., 0] == 0)
        going = production & (outputs.argmax(axis=-1) == 1)
        interval = self.dt * (due - production.argmax(axis=0))
        error = self.dt * jnp.abs(going.argmax(axis=0) - due)
        return going.any(axis=0) & (error <= self.margin * interval + 25)


def scaled(factor: int | float, steps: Any) -> Any:
    """Return floor(factor * steps), where a product within 1e-4 below an integer is that."""
    return (factor * steps + 1e-4).astype("int32")
