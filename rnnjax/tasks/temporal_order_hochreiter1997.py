"""The temporal order problem as Hochreiter & Schmidhuber 1997 define it."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import SupportsFloat, final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Regression, Sampled, check_integer

WINDOWS = {  # first and last step, in hundredths of the length
    2: ((10, 20), (50, 60)),
    3: ((10, 20), (33, 43), (66, 76)),
}
START, END = 6, 7  # the symbols E and B


@final
@dataclasses.dataclass(frozen=True)
class TemporalOrderHochreiter1997(Regression, Sampled):
    """Say after the last symbol which of X and Y stood at each of two (or three) hidden steps.

    Eight one-hot symbols, in this order: X, Y, a, b, c, d, E, B. A sequence of n symbols starts
    with E and ends with B, and n is uniform in L .. L + L // 10 for L = `length`. Each hidden step
    is uniform over a window and holds X or Y with equal odds. Every other step holds a, b, c or d,
    uniformly. For L = 100 the windows are those of the paper; steps count from 0, which is E, and
    both ends belong to a window:

        symbols=2 (task 6a):   10 .. 20,  50 .. 60              4 classes: XX, XY, YX, YY
        symbols=3 (task 6b):   10 .. 20,  33 .. 43,  66 .. 76   8 classes: XXX, XXY, .., YYY

    For other L the ends scale with L and are rounded down. Inputs `[L + L // 10, B, 8]`, zero past
    a sequence's end. Targets `[L + L // 10, B, 4 or 8]`: the class, one-hot, at the last of the n
    steps, the only one that is scored. A class is read as a binary number with X = 0, Y = 1 and the
    first symbol the most significant. For `length=10`, with n = 10 and the class YX:

        step     0  1  2  3  4  5  6  7  8  9 10
        input    E  d  Y  a  c  X  b  b  d  B  -
        target   -  -  -  -  -  -  -  -  -  2  -

    The loss is the squared error, the mean over outputs (the paper descends half of the sum). A
    sequence is correct if every output's error is below .3, as in the paper. The paper's rule for a
    run is about training: the last 2000 sequences are correct with a mean error below .1. Ours is
    about held-out sequences: a run has succeeded if at least 99.9 % are correct (the paper has 1 of
    2560 wrong in task 6a). Chance is p (1 - p) with p = 1/4 or 1/8: every output is always p.

    Source: Hochreiter & Schmidhuber 1997, "Long short-term memory", experiments 6a and 6b.
    `TemporalOrder` is the same problem as Pascanu, Mikolov, Bengio 2013 scale it.

    Args:
        length: L, at least 10.
        symbols: 2 or 3, the number of hidden steps.

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
        return 8

    @property
    def output_size(self) -> int:
        return 2**self.symbols

    @property
    def total_length(self) -> int:
        return self.length + self.length // 10

    @property
    def chance(self) -> float:
        return (1 - 1 / self.output_size) / self.output_size

    @property
    def tolerance(self) -> float:
        return 0.3

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        distractor_key, position_key, symbol_key = jax.random.split(key, 3)
        step, end = jnp.arange(self.total_length), (self.length - 1, self.total_length - 1)
        windows = [[h * self.length // 100 for h in ends] for ends in WINDOWS[self.symbols]]
        low, high = jnp.array([*windows, end]).T
        *positions, last = jax.random.randint(position_key, low.shape, low, high + 1)
        bits = jax.random.bernoulli(symbol_key, shape=(self.symbols,)).astype(jnp.int32)
        symbols = jax.random.randint(distractor_key, step.shape, 2, 6, jnp.int32)
        symbols = symbols.at[jnp.stack(positions)].set(bits).at[0].set(START)
        symbols = jnp.where(step == last, END, symbols)
        inputs = jax.nn.one_hot(symbols, 8, dtype=jnp.float32)
        inputs = jnp.where((step <= last)[:, None], inputs, 0)
        label = jnp.sum(bits << jnp.arange(self.symbols, dtype=jnp.int32)[::-1])
        target = jax.nn.one_hot(label, self.output_size, dtype=jnp.float32)
        mask = step == last
        return Batch(inputs, jnp.where(mask[:, None], target, 0), mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.999  # rounded: float32's .999 is less
