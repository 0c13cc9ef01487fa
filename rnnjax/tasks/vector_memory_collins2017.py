"""Reconstructing one random vector from the last state: the memory task of Collins et al. 2017."""

import dataclasses
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class VectorMemoryCollins2017(Regression, Sampled):
    """Read one vector of n numbers, wait without input, and repeat all of it at the last step.

        step       0    1    2    3    4
        input      x    0    0    0    0        x ~ N(0, I_n)
        target     -    -    -    -    x

    Inputs `[T, B, n]`, targets `[T, B, n]`, scored at the last step. The loss is the squared error,
    the mean over the n outputs. Chance is 1, the variance of an output: always answer 0. Whatever
    network writes the last state, an affine readout of H units spans H of n dimensions, and its
    expected loss is at least that of `least_loss`, 1 - H/n, or 0 from H = n on.

    The paper gives this task n = 64 and no more than that the input is random, shown once, and
    reconstructed "at some time in the future"; the normal distribution and the length are this
    library's. It has no rule for one sequence or for a run. Ours: a sequence is correct if every
    output is within .3, and a run has succeeded if its loss is below 1 / 2n, half of what one
    missing dimension costs.

    Source: Collins, Sohl-Dickstein, Sussillo 2017, "Capacity and trainability in recurrent neural
    networks", arXiv:1611.09913, section 2.2 and figure 2c.

    Args:
        length: T, at least 2.
        size: n.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 5
    size: int = 64

    def __post_init__(self):
        check_integer("length", self.length, 2)
        check_integer("size", self.size, 1)

    @property
    def input_size(self) -> int:
        return self.size

    @property
    def output_size(self) -> int:
        return self.size

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return 1.0

    @property
    def tolerance(self) -> float:
        return 0.3

    def least_loss(self, units: int) -> float:
        """Return the smallest expected loss of an affine readout of this many units, 1 - H/n."""
        return max(0.0, 1 - units / self.size)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        vector = jax.random.normal(key, (self.size,), jnp.float32)
        zeros = jnp.zeros((self.length, self.size), jnp.float32)
        mask = jnp.arange(self.length) == self.length - 1
        return Batch(zeros.at[0].set(vector), zeros.at[-1].set(vector), mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return float(metrics["loss"]) < 1 / (2 * self.size)
