"""The copying memory problem as Arjovsky, Shah, Bengio 2016 define it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rnnjax.tasks.base import Batch, Classification, Sampled, check_integer


@final
@dataclasses.dataclass(frozen=True)
class CopyMemory(Classification, Sampled):
    """Read M symbols, wait, and repeat them in order after the marker.

        inputs:   s_1 .. s_M,  T - 1 blanks,  marker,  M blanks         s_i uniform in 0 .. S - 1
        targets:  T + M blanks,                        s_1 .. s_M

    Inputs `[T + 2M, B, S + 2]` are one-hot: the S symbols, then blank (S), then marker (S + 1).
    Targets `[T + 2M, B]` are labels and every step is scored. The marker is never a target, so
    there are S + 1 classes: the symbols, then blank (the authors' code has 9 for S = 8 too). For
    `CopyMemory(length=4, symbols=8, memorise=3)`, with blank `_` and marker `>`:

        step      0  1  2  3  4  5  6  7  8  9
        input     5  0  2  _  _  _  >  _  _  _
        target    _  _  _  _  _  _  _  5  0  2

    The loss is the cross-entropy, averaged over all T + 2M steps, which is why chance shrinks
    with T: a memoryless answer is blank until the marker, then uniform over the symbols,

        chance = M ln S / (T + 2M),     10 ln 8 / (T + 20) in the paper.

    A sequence is correct if all M recalled symbols are, regardless of the answers before them. The
    paper has no rule for a run. Ours: the loss is below a tenth of chance.

    Source: Arjovsky, Shah, Bengio 2016, "Unitary evolution recurrent neural networks",
    arXiv:1511.06464, section 4.1; S = 8 and M = 10 there.

    Args:
        length: T, one more than the blanks between the symbols and the marker; at least 1.
        symbols: S, the size of the alphabet; at least 2.
        memorise: M, the number of symbols to repeat; at least 1.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 100
    symbols: int = 8
    memorise: int = 10

    def __post_init__(self):
        check_integer("length", self.length, 1)
        check_integer("symbols", self.symbols, 2)
        check_integer("memorise", self.memorise, 1)

    @property
    def input_size(self) -> int:
        return self.symbols + 2

    @property
    def output_size(self) -> int:
        return self.symbols + 1

    @property
    def total_length(self) -> int:
        return self.length + 2 * self.memorise

    @property
    def chance(self) -> float:
        return self.memorise * math.log(self.symbols) / self.total_length

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        blank, marker = self.symbols, self.symbols + 1
        symbols = jax.random.randint(key, (self.memorise,), 0, self.symbols, jnp.int32)
        recall = self.memorise + self.length  # the step after the marker
        blanks = jnp.full(self.total_length, blank, jnp.int32)
        inputs = blanks.at[: self.memorise].set(symbols).at[recall - 1].set(marker)
        targets = blanks.at[recall:].set(symbols)
        mask = jnp.ones(self.total_length, bool)
        return Batch(jax.nn.one_hot(inputs, self.input_size, dtype=jnp.float32), targets, mask)

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether all the recalled symbols are right."""
        return self.hits(outputs, batch)[-self.memorise :].all(axis=0)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return float(metrics["loss"]) < self.chance / 10
