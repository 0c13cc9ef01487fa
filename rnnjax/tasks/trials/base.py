"""What trial-structured tasks share: named epochs, conditions, labels, noise and the chance level.

A trial is a pure function of three things that are drawn: the conditions (coherence, context, ..),
the epochs (when each begins and ends) and the noise.

Axis letters: T time, B batch, D input features, N input features with noise.
"""

import abc
import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rnnjax.tasks.base import Batch, Classification, Sampled, check_integer
from rnnjax.tasks.trials.chance import best_fixed_loss
from rnnjax.tasks.trials.draws import draw_levels
from rnnjax.tasks.trials.durations import (
    Distribution,
    Duration,
    check_milliseconds,
    step_table,
    steps_at,
)


class Epoch(NamedTuple):
    """A part of a trial, in steps: `start <= t < end`. One number, or one for each trial `[B]`."""

    start: Any
    end: Any


class Trials(NamedTuple):
    """A batch of trials, with what was drawn for each of them.

    Attributes:
        batch: the `Batch`, time-major: what `sample` returns.
        conditions: a named tuple of arrays `[B]`, the task's own.
        epochs: the `Epoch` of every name, `[B]`, int32.
    """

    batch: Batch
    conditions: Any
    epochs: dict[str, Epoch]


def within(epoch: Epoch, length: int) -> Any:
    """Return whether each of `length` steps lies in an epoch: `[*batch, T]`."""
    time = np.arange(length, dtype=np.int32)
    return (epoch.start[..., None] <= time) & (epoch.end[..., None] > time)


@dataclasses.dataclass(frozen=True)
class TrialTask(Classification, Sampled):
    """A task whose trials consist of epochs, the last of which asks for an answer.

    Label 0 is to fixate, and is right at every step before the answer. The arrays have T steps for
    all trials; after a trial's end, inputs are zero and steps are not scored. Noise is drawn anew
    at each step, Gaussian with standard deviation sigma / sqrt(dt), as neurogym scales it. The
    answer to a trial is the most probable class at its last step, the rule of Yang et al. 2019.

    A subclass has a field NAME_ms of type `Duration` for each name in `epoch_names`.

    Args:
        length: T, the steps of the arrays; 0, the default, stands for those of the longest trial.
        dt: the duration of a step in ms.
        sigma: the noise of the stimulus, in units of its strength times sqrt(ms).
        criterion: the share of right answers from which on a run has succeeded.
        unscored: the names of epochs that do not count in the loss.
        cue_epochs: the names of the epochs in which the fixation cue is on.

    Raises:
        ValueError: an argument is out of range, a name is not that of an epoch, the
            last epoch is unscored or can last less than a step, or the longest trial has more than
            `length` steps.
    """

    epoch_names: ClassVar[tuple[str, ...]]
    noisy_epochs: ClassVar[tuple[str, ...]] = ()

    length: int = 0
    dt: int | float = 100
    sigma: int | float = 1.0
    criterion: int | float = 0.95
    unscored: tuple[str, ...] = ()
    cue_epochs: tuple[str, ...] = ("fixation",)

    def __post_init__(self):
        check_integer("length", self.length, 0)
        check_milliseconds("sigma", self.sigma)
        check_milliseconds("dt", self.dt)
        if self.dt == 0:
            raise ValueError(f"dt must be positive, got {self.dt!r}")
        if not 0 < self.criterion <= 1:
            raise ValueError(f"criterion must lie in (0, 1], got {self.criterion!r}")
        for name, duration in self.durations.items():
            if not isinstance(duration, Distribution):
                check_milliseconds(f"{name}_ms", duration)
        self.check_conditions()
        *before, last = self.epoch_names
        for name in self.unscored:
            if name not in before:
                raise ValueError(f"unscored must name some of {', '.join(before)}, got {name!r}")
        if not self.cue_epochs or not set(self.cue_epochs) <= set(self.epoch_names):
            some = ", ".join(self.epoch_names)
            raise ValueError(f"cue_epochs must name some of {some}, got {self.cue_epochs!r}")
        shortest = self.place({n: step_table(d, self.dt)[0][0] for n, d in self.durations.items()})
        if shortest[last].end <= shortest[last].start:
            raise ValueError(
                f"{last}_ms must be at least a step of dt = {self.dt} ms, "
                f"got {self.durations.get(last, 0)!r}"
            )
        if self.length and self.longest > self.length:
            raise ValueError(
                f"length must be at least the {self.longest} steps that the epochs of "
                f"{type(self).__name__} can take at dt = {self.dt} ms, got {self.length}"
            )

    @property
    def durations(self) -> dict[str, Duration]:
        """The durations of the epochs that are drawn, in ms, by name."""
        return {name: getattr(self, f"{name}_ms") for name in self.epoch_names}

    @property
    def total_length(self) -> int:
        return self.length or self.longest

    @property
    def longest(self) -> int:
        """The number of steps of the longest trial."""
        return int(self.longest_epochs[self.epoch_names[-1]].end)

    @property
    def longest_epochs(self) -> dict[str, Epoch]:
        """The epochs of the trial in which each has its longest duration."""
        return self.place({n: step_table(d, self.dt)[0][-1] for n, d in self.durations.items()})

    @property
    def output_size(self) -> int:
        return len(self.answers)

    @property
    def chance(self) -> float:
        return best_fixed_loss(self)

    @property
    @abc.abstractmethod
    def answers(self) -> tuple[float, ...]:
        """The probability of each label as the answer to a trial, beginning with that of 0."""

    @property
    def noisy_units(self) -> slice:
        """The input features that have noise: by default all but the fixation cue."""
        return slice(1, None)

    @abc.abstractmethod
    def draw(self, key: PRNGKeyArray) -> Any:
        """Draw the conditions of a trial, a named tuple of scalars."""

    @abc.abstractmethod
    def stimuli(self, conditions: Any, epochs: dict[str, Epoch]) -> Float[Array, "T D"]:
        """Return the inputs without noise."""

    @abc.abstractmethod
    def answer(self, conditions: Any) -> Int[Array, ""]:
        """Return the label of the right answer."""

    def cue(self, epochs: Mapping[str, Epoch]) -> Any:
        """Return at which steps the fixation cue is on."""
        return self.during(epochs, *self.cue_epochs)

    def check_conditions(self) -> None:
        """Raise a ValueError unless the task's own arguments are right. By default they are."""

    def place(self, steps: Mapping[str, Any]) -> dict[str, Epoch]:
        """Return the epochs that last these numbers of steps: by default one after the other."""
        epochs, start = {}, steps[self.epoch_names[0]] * 0
        for name in self.epoch_names:
            epochs[name] = Epoch(start, start + steps[name])
            start = epochs[name].end
        return epochs

    def during(self, epochs: Mapping[str, Epoch], *names: str) -> Any:
        """Return whether each step lies in one of the named epochs: `[*batch, T]`."""
        found = (within(epochs[name], self.total_length) for name in names)
        return functools.reduce(lambda a, b: a | b, found)

    def answer_steps(self, epochs: Mapping[str, Epoch]) -> Any:
        """Return at which steps the answer is due: by default in the last epoch."""
        return self.during(epochs, self.epoch_names[-1])

    def scored_steps(self, epochs: Mapping[str, Epoch]) -> Any:
        """Return which steps count in the loss: all of the trial that are not `unscored`."""
        end = epochs[self.epoch_names[-1]].end
        inside = within(Epoch(end * 0, end), self.total_length)
        return inside & ~self.during(epochs, *self.unscored) if self.unscored else inside

    def draw_epochs(self, key: PRNGKeyArray) -> dict[str, Epoch]:
        """Draw when each epoch of a trial begins and ends."""
        levels = draw_levels(key, len(self.durations))
        drawn = zip(self.durations.items(), levels, strict=True)
        return self.place({name: steps_at(d, self.dt, level) for (name, d), level in drawn})

    def build(
        self, conditions: Any, epochs: dict[str, Epoch], noise: Float[Array, "T N"] | None = None
    ) -> Batch:
        """Return one trial, without a B axis, of these conditions and epochs.

        `noise` are standard normal numbers for the `noisy_units`; without them there is none.
        """
        inputs = self.stimuli(conditions, epochs)
        if noise is not None:
            first, end, _ = self.noisy_units.indices(self.input_size)
            scale = jnp.where(self.during(epochs, *self.noisy_epochs), self.step_sigma, 0.0)
            inputs += jnp.pad(scale[:, None] * noise, ((0, 0), (first, self.input_size - end)))
        mask = self.scored_steps(epochs)
        targets = jnp.where(mask & self.answer_steps(epochs), self.answer(conditions), 0)
        return Batch(inputs.astype(jnp.float32), targets.astype(jnp.int32), mask)

    @property
    def step_sigma(self) -> float:
        """The standard deviation of the noise of a step."""
        return float(self.sigma) / math.sqrt(self.dt)

    def sample_trial(self, key: PRNGKeyArray) -> Trials:
        """Draw one trial: arrays that lack the B axis."""
        condition_key, epoch_key, noise_key = jax.random.split(key, 3)
        conditions, epochs = self.draw(condition_key), self.draw_epochs(epoch_key)
        noise = None
        if self.sigma and self.noisy_epochs:
            units = len(range(self.input_size)[self.noisy_units])
            noise = jax.random.normal(noise_key, (self.total_length, units), jnp.float32)
        return Trials(self.build(conditions, epochs, noise), conditions, epochs)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        return self.sample_trial(key).batch

    def sample_trials(self, key: PRNGKeyArray, batch_size: int) -> Trials:
        """Draw independent trials with their conditions and epochs; `sample` gives the same batch.

        Raises:
            ValueError: `batch_size` is not a positive integer.
        """
        check_integer("batch_size", batch_size, 1)
        keys = jax.random.split(key, batch_size)
        return jax.vmap(self.sample_trial, out_axes=Trials(1, 0, 0))(keys)  # pyright: ignore

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether the most probable class at each trial's last step is the answer."""
        hits = self.hits(outputs, batch)
        return jnp.take_along_axis(hits, last_steps(batch)[None], axis=0)[0]

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= self.criterion


def last_steps(batch: Batch) -> Int[Array, " B"]:
    """Return each trial's last scored step."""
    return batch.mask.shape[0] - 1 - jnp.argmax(batch.mask[::-1], axis=0)


def choices(outputs: Float[Array, "T B O"], batch: Batch) -> Int[Array, " B"]:
    """Return the label that a network chose in each trial: the largest at its last scored step."""
    chosen = outputs.argmax(axis=-1)
    return jnp.take_along_axis(chosen, last_steps(batch)[None], axis=0)[0]


def check_numbers(name: str, values: Any, least: int | float, most: int | float) -> None:
    """Raise a ValueError unless `values` are numbers from `least` to `most`, and at least one."""
    inside = [isinstance(v, numbers.Real) and least <= float(v) <= most for v in values]
    if not inside or not all(inside):
        raise ValueError(f"{name} must hold numbers in [{least:g}, {most:g}], got {values!r}")
