"""The temporal order problem as Pascanu, Mikolov, Bengio 2013 scale it."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rnnjax.tasks.base import Batch, Classification, Sampled, check_integer

WINDOWS = {2: (10, 50), 3: (10, 30, 60)}  # where each window starts, in hundredths of the length


@final
@dataclasses.dataclass(frozen=True)
class TemporalOrder(Classification, Sampled):
    """Say at the last step which of A and B stood at each of two (or three) hidden positions.

    Six one-hot symbols: A, B and the distractors c, d, e, f. Each position p_k is uniform over a
    window of L // 10 steps and holds A or B with equal odds; every other step holds a distractor,
    uniformly. The windows are, with L = `length` and starts rounded down,

        symbols=2:   [.1 L, .2 L),  [.5 L, .6 L)                    4 classes: AA, AB, BA, BB
        symbols=3:   [.1 L, .2 L),  [.3 L, .4 L),  [.6 L, .7 L)    8 classes: AAA, AAB, .., BBB

    Inputs `[L, B, 6]`. Targets `[L, B]` are labels, the position's symbols read as binary digits
    with A = 0, B = 1 and the first the most significant; scored at the last step. For
    `length=20`, with p = (3, 10) and the class BA:

        step     0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18 19
        input    d  f  c  B  c  e  e  d  f  c  A  c  d  f  d  e  c  f  e  d
        target   -  -  -  -  -  -  -  -  -  -  -  -  -  -  -  -  -  -  -  2

    The loss is the cross-entropy; chance is ln 4 (ln 8 for three symbols). A sequence is correct
    if the most probable class is right, and a run has succeeded if less than 1 % of sequences
    are wrong (the paper's rule, on 10,000 fresh sequences).

    Source: Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural
    networks", arXiv:1211.5063, section 4.1.1; the windows are those of the authors' generators.
    The task of Hochreiter & Schmidhuber 1997 (experiments 6a and 6b), with start and end symbols,
    random lengths and other windows, is `TemporalOrderHochreiter1997`.

    Args:
        length: L, at least 10.
        symbols: 2 or 3, the number of hidden positions.

    Raises:
        ValueError: `length` is not an integer or too small, or `symbols` is neither 2 nor 3.
    """

    length: int = 100
    symbols: int = 2

    def __post_init__(self):
        check_integer("length", self.length, 10)
        if not isinstance(self.symbols, numbers.Integral) or self.symbols not in WINDOWS:
            raise ValueError(f"symbols must be 2 or 3, got {self.symbols!r}")

    @property
    def input_size(self) -> int:
        return 6

    @property
    def output_size(self) -> int:
        return 2**self.symbols

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return math.log(self.output_size)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        distractor_key, position_key, symbol_key = jax.random.split(key, 3)
        starts = jnp.array([start * self.length // 100 for start in WINDOWS[self.symbols]])
        shape, width = starts.shape, self.length // 10
        positions = starts + jax.random.randint(position_key, shape, 0, width)
        bits = jax.random.bernoulli(symbol_key, shape=shape).astype(jnp.int32)
        distractors = jax.random.randint(distractor_key, (self.length,), 2, 6, jnp.int32)
        inputs = jax.nn.one_hot(distractors.at[positions].set(bits), 6, dtype=jnp.float32)
        label = jnp.sum(bits << jnp.arange(self.symbols, dtype=jnp.int32)[::-1])
        mask = jnp.arange(self.length) == self.length - 1
        return Batch(inputs, jnp.where(mask, label, 0).astype(jnp.int32), mask)

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether the class at the last step is right."""
        return self.hits(outputs, batch)[-1]

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(1 - float(metrics["accuracy"]), 6) < 0.01  # rounded: float32's .99 is more
