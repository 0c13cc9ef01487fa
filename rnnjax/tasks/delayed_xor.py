"""Delayed exclusive or: compare two bits that are far apart."""

import dataclasses
import math
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Classification, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class DelayedXOR(Classification, Sampled):
    """Say at the last step whether two bits differ: one at the start, one halfway.

        step       0    1 .. T/2 - 1    T/2    T/2 + 1 .. T - 1
        input      a       blank         b          blank
        target     -         -           -     - .. a xor b

    Inputs `[T, B, 3]` are one-hot: 0, 1, blank. Targets `[T, B]` are 0 or 1, scored at the last
    step; T/2 is rounded down. Neither bit says anything by itself, so the loss stays at chance,
    ln 2, until both are remembered at once: the smallest task that needs memory and a function that
    is not linear. A sequence is correct if the most probable class is right, and a run has
    succeeded if at least 99 % of sequences are. The task is common in studies of delays; its
    numbers are this library's.

    Args:
        length: T, at least 3.

    Raises:
        ValueError: `length` is not an integer or too small.
    """

    length: int = 100

    def __post_init__(self):
        check_integer("length", self.length, 3)

    @property
    def input_size(self) -> int:
        return 3

    @property
    def output_size(self) -> int:
        return 2

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return math.log(2)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        first, second = jax.random.bernoulli(key, shape=(2,)).astype(jnp.int32)
        symbols = jnp.full(self.length, 2, jnp.int32).at[0].set(first)
        symbols = symbols.at[self.length // 2].set(second)
        mask = jnp.arange(self.length) == self.length - 1
        targets = jnp.where(mask, first ^ second, 0).astype(jnp.int32)
        return Batch(jax.nn.one_hot(symbols, 3, dtype=jnp.float32), targets, mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.99
