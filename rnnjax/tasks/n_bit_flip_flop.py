"""The flip-flop: memories of one bit each, set by pulses."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class NBitFlipFlop(Regression, Sampled):
    """Keep the sign of the last pulse in each of N channels.

        step       0  1  2  3  4  5  6  7
        input      1  0  0 -1  0  1  1  0        one channel
        target     1  1  1 -1 -1  1  1  1

    Inputs `[T, B, N]` are pulses: independently in each channel and step, 0 with probability 1 - p,
    else -1 or 1 with even odds; at step 0 every channel has a pulse. Targets `[T, B, N]` are each
    channel's last pulse, and every step is scored. The loss is the squared error, averaged over
    channels; a memoryless answer is 0, so chance is 1. A sequence is correct if all outputs are
    within .5 of their targets at all steps, and a run has succeeded if at least 99 % of sequences
    are.

    Source: Sussillo & Barak 2013, "Opening the black box: low-dimensional dynamics in
    high-dimensional recurrent neural networks", Neural Computation 25, section 3.2 (three bits);
    T = 64, p = .5 and the pulse at step 0 are those of the example of Golub's fixed-point-finder.

    Args:
        length: T, at least 1.
        bits: N, at least 1.
        probability: p, of a pulse; in (0, 1].

    Raises:
        ValueError: an argument is not an integer, or out of range.
    """

    length: int = 64
    bits: int = 3
    probability: int | float = 0.5

    def __post_init__(self):
        check_integer("length", self.length, 1)
        check_integer("bits", self.bits, 1)
        if not isinstance(self.probability, numbers.Real) or not 0 < self.probability <= 1:
            raise ValueError(f"probability must lie in (0, 1], got {self.probability!r}")

    @property
    def input_size(self) -> int:
        return self.bits

    @property
    def output_size(self) -> int:
        return self.bits

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return 1.0

    @property
    def tolerance(self) -> float:
        return 0.5

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        pulse_key, sign_key = jax.random.split(key)
        shape = (self.length, self.bits)
        time = jnp.arange(self.length, dtype=jnp.int32)[:, None]
        odds = jnp.float32(self.probability)
        pulses = jax.random.bernoulli(pulse_key, odds, shape) | (time == 0)
        signs = jax.random.rademacher(sign_key, shape, jnp.float32)
        last = jax.lax.cummax(jnp.where(pulses, time, 0), axis=0)
        targets = jnp.take_along_axis(signs, last, axis=0)
        return Batch(jnp.where(pulses, signs, 0.0), targets, jnp.ones(self.length, bool))

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.99
