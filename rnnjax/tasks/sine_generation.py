"""Sine generation: a static input sets the frequency of the output."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class SineGeneration(Regression, Sampled):
    """Generate a sine whose frequency a constant input sets.

        x_t = j / J + 1/4,    y_t = sin(omega_j t)
        omega_j = low + (high - low) (j - 1) / (J - 1)

    with j uniform in 1 .. J and t = 0 .. T - 1 in steps. Inputs and targets `[T, B, 1]`, every step
    scored. A memoryless answer is the mean over frequencies, so chance is the mean over steps of
    the variance over frequencies. A sequence is correct if the output is within .1 of the sine at
    all steps. The paper has no rule for a run. Ours: the loss is below a hundredth of chance.

    Source: Sussillo & Barak 2013, "Opening the black box: low-dimensional dynamics in
    high-dimensional recurrent neural networks", Neural Computation 25, section 3.3: 51 frequencies
    from .1 to .6 radians per unit of time, which is a step here.

    Args:
        length: T, at least 2: at t = 0 all sines are zero.
        frequencies: J, at least 2.
        low: omega_1, radians per step.
        high: omega_J, at most pi.

    Raises:
        ValueError: `length` or `frequencies` is not an integer or too small, or not
            0 < low < high <= pi.
    """

    length: int = 100
    frequencies: int = 51
    low: int | float = 0.1
    high: int | float = 0.6

    def __post_init__(self):
        check_integer("length", self.length, 2)
        check_integer("frequencies", self.frequencies, 2)
        real = isinstance(self.low, numbers.Real) and isinstance(self.high, numbers.Real)
        if not real or not 0 < self.low < self.high <= math.pi:
            raise ValueError(
                "low and high must satisfy 0 < low < high <= pi, "
                f"got {self.low!r} and {self.high!r}"
            )

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def sines(self) -> np.ndarray:
        """The targets `[J, T]` of all frequencies, float64."""
        omegas = np.linspace(self.low, self.high, self.frequencies)
        return np.sin(omegas[:, None] * np.arange(self.length))

    @property
    def chance(self) -> float:
        return float(self.sines.var(axis=0).mean())

    @property
    def tolerance(self) -> float:
        return 0.1

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        index = jax.random.randint(key, (), 0, self.frequencies, jnp.int32)
        level = ((index + 1) / self.frequencies + 0.25).astype(jnp.float32)
        targets = jnp.asarray(self.sines, jnp.float32)[index][:, None]
        return Batch(jnp.full_like(targets, level), targets, jnp.ones(self.length, bool))

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return float(metrics["loss"]) < self.chance / 100
