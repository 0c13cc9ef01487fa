"""Delayed recall: say what the input was d steps ago."""

import dataclasses
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class DelayedRecall(Regression, Sampled):
    """Repeat at every step the input of d steps ago.

        step       0   1   2   3   4
        input     .3 -.8  .1  .5 -.2        d = 2
        target     -   -  .3 -.8  .1        y_t = x_{t-d}

    Inputs `[T, B, 1]` are independent and uniform in [-1, 1). Targets `[T, B, 1]` are scored from
    step d on. A network has to hold the last d inputs, all of them at once, and may forget those
    before. Chance is 1/3, the variance of the inputs. A sequence is correct if all scored outputs
    are within .2 of their targets, and a run has succeeded if its loss is below a tenth of chance.
    The task is the usual one for short-term memory; its numbers are this library's.

    Args:
        length: T, larger than d.
        delay: d, at least 1.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 100
    delay: int = 10

    def __post_init__(self):
        check_integer("delay", self.delay, 1)
        check_integer("length", self.length, self.delay + 1)

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
    def chance(self) -> float:
        return 1 / 3

    @property
    def tolerance(self) -> float:
        return 0.2

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        inputs = jax.random.uniform(key, (self.length, 1), jnp.float32, -1, 1)
        mask = jnp.arange(self.length) >= self.delay
        targets = jnp.where(mask[:, None], jnp.roll(inputs, self.delay, axis=0), 0)
        return Batch(inputs, targets, mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return float(metrics["loss"]) < self.chance / 10
