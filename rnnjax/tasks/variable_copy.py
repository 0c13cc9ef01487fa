"""Copying of sequences whose length varies."""

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
class VariableCopy(Classification, Sampled):
    """Read m symbols, m uniform in 1 .. M, and repeat them after the marker.

        step       0  1  2  3  4  5  6  7  8                     M = 4, m = 3
        input      5  0  2  >  _  _  _  _  _
        target     -  -  -  -  5  0  2  -  -

    Inputs `[2M + 1, B, S + 2]` are one-hot: the S symbols, then blank (S), then marker (S + 1).
    Targets `[2M + 1, B]` are labels, scored at the m steps after the marker. How long a symbol has
    to be kept depends on the sequence, so no fixed delay does it. Chance is ln S. A sequence is
    correct if all m symbols are, and a run has succeeded if at least 99 % of sequences are.
    Source: Graves, Wayne, Danihelka 2014, "Neural Turing machines", arXiv:1410.5401, section 4.1
    (M = 20, vectors of bits there), tested at lengths beyond those of training.

    Args:
        length: M, the largest number of symbols; at least 1.
        symbols: S, at least 2.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 20
    symbols: int = 8

    def __post_init__(self):
        check_integer("length", self.length, 1)
        check_integer("symbols", self.symbols, 2)

    @property
    def input_size(self) -> int:
        return self.symbols + 2

    @property
    def output_size(self) -> int:
        return self.symbols

    @property
    def total_length(self) -> int:
        return 2 * self.length + 1

    @property
    def chance(self) -> float:
        return math.log(self.symbols)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        count_key, symbol_key = jax.random.split(key)
        count = jax.random.randint(count_key, (), 1, self.length + 1)
        symbols = jax.random.randint(symbol_key, (self.length,), 0, self.symbols, jnp.int32)
        time = jnp.arange(self.total_length)
        symbols = jnp.pad(symbols, (0, self.length + 1))
        read = jnp.where(time < count, symbols, jnp.where(time == count, 1, 0) + self.symbols)
        mask = (time > count) & (time <= 2 * count)
        targets = jnp.where(mask, symbols[jnp.maximum(time - count - 1, 0)], 0)
        inputs = jax.nn.one_hot(read, self.input_size, dtype=jnp.float32)
        return Batch(inputs, targets.astype(jnp.int32), mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.99
