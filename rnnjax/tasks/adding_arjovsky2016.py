"""The adding problem as Arjovsky, Shah, Bengio 2016 define it."""

import dataclasses
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class AddingArjovsky2016(Regression, Sampled):
    """Add two marked numbers, one in each half of the sequence, and answer at the last step.

        value_t ~ U[0, 1),   marker_t = 1 at p1 and p2, else 0,   target = value_p1 + value_p2,
        p1 uniform in [0, T // 2),   p2 uniform in [T // 2, T)

    Inputs `[T, B, 2]`: value, marker. Targets `[T, B, 1]`, scored at the last step. For
    `length=6`, with p1 = 1 and p2 = 4:

        step      0     1     2     3     4     5
        value   .31   .82   .47   .05   .66   .90
        marker    0     1     0     0     1     0
        target    -     -     -     -     -  1.48

    The loss is the squared error. Chance is 1/6, the variance of the target: always answer 1.
    The paper has no rule for one sequence. Ours: a sequence is correct if the error is below .08,
    which is the .04 of Hochreiter & Schmidhuber 1997 for a target with a range of 2 instead of 1.
    The paper has no rule for a run either. Ours: its loss is below a tenth of chance.

    Source: Arjovsky, Shah, Bengio 2016, "Unitary evolution recurrent neural networks",
    arXiv:1511.06464, section 4.1. Only the name is that of `AddingHochreiter1997`.

    Args:
        length: T, at least 2.

    Raises:
        ValueError: `length` is not an integer or too small.
    """

    length: int = 100

    def __post_init__(self):
        check_integer("length", self.length, 2)

    @property
    def input_size(self) -> int:
        return 2

    @property
    def output_size(self) -> int:
        return 1

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return 1 / 6

    @property
    def tolerance(self) -> float:
        return 0.08

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        value_key, mark_key = jax.random.split(key)
        step, half = jnp.arange(self.length), self.length // 2
        low, high = jnp.array([0, half]), jnp.array([half, self.length])
        first, second = jax.random.randint(mark_key, (2,), low, high)
        value = jax.random.uniform(value_key, step.shape, jnp.float32)
        marked = (step == first) | (step == second)
        mask = step == self.length - 1
        target = value.sum(where=marked)
        inputs = jnp.stack([value, marked.astype(jnp.float32)], axis=-1)
        return Batch(inputs, jnp.where(mask, target, 0)[:, None], mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return float(metrics["loss"]) < self.chance / 10
