"""The adding problem as Hochreiter & Schmidhuber 1997 define it."""

import dataclasses
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class AddingHochreiter1997(Regression, Sampled):
    """Add two marked numbers from the first half of a sequence of random length.

        n uniform in T .. T + T // 10,   value_t ~ U[-1, 1),   target = .5 + (X1 + X2) / 4

    One of the first ten pairs, drawn uniformly, is marked with 1. Then "one of the first T/2 - 1
    still unmarked pairs" is marked. We read this as: leave out the pair already marked, take the
    first T // 2 - 1 of the others, and draw one uniformly. The other markers are 0, except at the
    first and the last of the n pairs, which are set to -1 even if they were marked. X1 and X2 are
    the values of the marked pairs, or 0 if the mark was replaced by -1 (the paper says so for X1 at
    the first pair; we treat X2 and the last pair in the same way, which matters at T = 10).

    Inputs `[T + T // 10, B, 2]`: value, marker; both are 0 past a sequence's end. Targets
    `[T + T // 10, B, 1]`, scored at the last of the n steps. For `length=10`, with n = 10, step 6
    marked first and then step 3 (out of 0, 1, 2, 3):

        step      0     1     2     3     4     5     6     7     8     9    10
        value   .40  -.75   .10   .62  -.31   .98  -.50   .07   .23   .11     0
        marker   -1     0     0     1     0     0     1     0     0    -1     0
        target    -     -     -     -     -     -     -     -     -   .53     -

    The loss is the squared error (the paper descends half of it). A sequence is correct if the
    error is below .04, as in the paper. The paper's rule for a run is about training: the last
    2000 sequences are correct with a mean error below .01. Ours is about held-out sequences: a
    run has succeeded if at least 99.9 % are correct (the paper has at most 1 of 2560 wrong).

    Chance is the variance of the target: always answer .5. Var(X) = 1/3 for each mark that counts.
    If all marks counted, chance would be 2 / 48 = 1/24, the figure usually quoted. A mark is lost
    at step 0 with probability 1/10 + 9/10 / (T // 2 - 1), so the exact value is

        (2 - 1/10 - 9/10 / (T // 2 - 1)) / 48        (at T = 10 a further 1/20 is subtracted from 2)

    which is .0392 for T = 100 and tends to 1.9 / 48 = .0396.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", section 5.4 (experiment 4).

    Args:
        length: T, at least 10.

    Raises:
        ValueError: `length` is not an integer or too small.
    """

    length: int = 100

    def __post_init__(self):
        check_integer("length", self.length, 10)

    @property
    def input_size(self) -> int:
        return 2

    @property
    def output_size(self) -> int:
        return 1

    @property
    def total_length(self) -> int:
        return self.length + self.length // 10

    @property
    def chance(self) -> float:
        lost_at_start = 1 / 10 + 9 / 10 / (self.length // 2 - 1)
        lost_at_end = 1 / 20 if self.length == 10 else 0  # first mark at step 9, and n = 10
        return (2 - lost_at_start - lost_at_end) / 48

    @property
    def tolerance(self) -> float:
        return 0.04

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        value_key, position_key = jax.random.split(key)
        step = jnp.arange(self.total_length)
        low = jnp.array([self.length - 1, 0, 0])
        high = jnp.array([self.total_length, 10, self.length // 2 - 1])
        last, first, second = jax.random.randint(position_key, (3,), low, high)
        second += second >= first  # counted among the unmarked pairs, so step over the marked one
        edge = (step == 0) | (step == last)
        marked = ((step == first) | (step == second)) & ~edge
        value = jax.random.uniform(value_key, step.shape, jnp.float32, -1, 1)
        marker = marked.astype(jnp.float32) - edge
        inputs = jnp.where((step <= last)[:, None], jnp.stack([value, marker], axis=-1), 0)
        mask = step == last
        target = 0.5 + value.sum(where=marked) / 4
        return Batch(inputs, jnp.where(mask, target, 0)[:, None], mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.999  # rounded: float32's .999 is less
