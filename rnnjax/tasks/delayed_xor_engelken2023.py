"""Delayed exclusive or of a stream of bits."""

import dataclasses
import math
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rnnjax.tasks.base import Batch, Classification, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class DelayedXOREngelken2023(Classification, Sampled):
    """Say at every step whether the bits of d and of 2d steps ago differ.

        step       0  1  2  3  4  5  6  7
        input      1  0  0  1  1  1  0  1        d = 2
        target     -  -  -  -  1  1  1  0        y_t = s_{t-d} xor s_{t-2d}

    Inputs `[T, B, 1]` are independent fair bits, 0 or 1. Targets `[T, B]` are labels, scored from
    step 2d on. A network has to hold the last 2d bits, all of them at once. Neither bit says
    anything by itself, so chance is ln 2. The accuracy is the share of scored bits that are right,
    as in the paper, and a run has succeeded if it is at least .99.

    Source: Engelken 2023, "Gradient flossing: improving gradient descent through dynamic control of
    Jacobians", arXiv:2312.17306; T = 300 and d = 10 are those of the command in its published code.

    Args:
        length: T, larger than 2d.
        delay: d, at least 1.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 300
    delay: int = 10

    def __post_init__(self):
        check_integer("delay", self.delay, 1)
        check_integer("length", self.length, 2 * self.delay + 1)

    @property
    def input_size(self) -> int:
        return 1

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
        bits = jax.random.bernoulli(key, shape=(self.length,)).astype(jnp.int32)
        mask = jnp.arange(self.length) >= 2 * self.delay
        answers = jnp.roll(bits, self.delay) ^ jnp.roll(bits, 2 * self.delay)
        return Batch(bits[:, None].astype(jnp.float32), jnp.where(mask, answers, 0), mask)

    def metrics(self, outputs: Float[Array, "T B O"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Return `loss` and `accuracy`, the share of scored bits that are right."""
        hits = jnp.sum(self.hits(outputs, batch) & batch.mask)
        return {"loss": self.loss(outputs, batch), "accuracy": hits / jnp.sum(batch.mask)}

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.99
