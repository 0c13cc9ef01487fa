"""Selective copying: repeat symbols that stand at random places among blanks."""

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
class SelectiveCopy(Classification, Sampled):
    """Read M symbols at random places among blanks, and then repeat them in order.

        step       0  1  2  3  4  5  6  7   8  9 10
        input      _  5  _  _  0  2  _  _   >  >  >
        target     -  -  -  -  -  -  -  -   5  0  2

    Inputs `[T + M, B, S + 2]` are one-hot: the S symbols, then blank (S), then marker (S + 1). The
    places are M different ones of the first T steps, uniformly; the symbols are uniform. Targets
    `[T + M, B]` are labels, scored at the M markers. What is between the symbols varies, so a cell
    has to choose by content what it stores: fixed dynamics, which could copy at a fixed delay,
    cannot. Chance is ln S. A sequence is correct if all M symbols are, and a run has succeeded if
    at least 99 % of sequences are.
    Source: Gu, Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces",
    arXiv:2312.00752, section 4.1.1, where T = 4096 and M = 16.

    Args:
        length: T, at least M.
        symbols: S, at least 2.
        memorise: M, at least 1.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 64
    symbols: int = 8
    memorise: int = 8

    def __post_init__(self):
        check_integer("symbols", self.symbols, 2)
        check_integer("memorise", self.memorise, 1)
        check_integer("length", self.length, self.memorise)

    @property
    def input_size(self) -> int:
        return self.symbols + 2

    @property
    def output_size(self) -> int:
        return self.symbols

    @property
    def total_length(self) -> int:
        return self.length + self.memorise

    @property
    def chance(self) -> float:
        return math.log(self.symbols)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        place_key, symbol_key = jax.random.split(key)
        places = jnp.sort(jax.random.permutation(place_key, self.length)[: self.memorise])
        symbols = jax.random.randint(symbol_key, (self.memorise,), 0, self.symbols, jnp.int32)
        read = jnp.full(self.total_length, self.symbols, jnp.int32)
        read = read.at[self.length :].set(self.symbols + 1).at[places].set(symbols)
        targets = jnp.zeros_like(read).at[self.length :].set(symbols)
        mask = jnp.arange(self.total_length) >= self.length
        return Batch(jax.nn.one_hot(read, self.input_size, dtype=jnp.float32), targets, mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.99
