"""Multi-query associative recall: say which value went with each key."""

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
class AssociativeRecall(Classification, Sampled):
    """Read N pairs of a key and a value; then, wherever a key comes again, say its value.

        step       0  1  2  3   4  5  6  7  8  9                 N = 2
        input      b  7  d  4   _  d  _  _  b  _
        target     -  -  -  -   -  4  -  -  7  -

    Inputs `[T, B, K + V + 1]` are one-hot: K keys, then V values, then blank. The N keys are
    different ones, and so are the N values, uniformly; each key comes again once, at one of N
    different steps of the last T - 2N, uniformly. Targets `[T, B]` are values as labels 0 .. V - 1,
    scored where a key comes again. Chance is ln V. A sequence is correct if all N answers are, and
    a run has succeeded if at least 99 % of sequences are.

    N pairs have to be stored at once and found by content: what a state holds is limited by its
    size, where attention looks back.
    Source: Arora et al. 2023, "Zoology: measuring and improving recall in efficient language
    models", arXiv:2312.04927 (MQAR). There the gaps to the queries follow a power law, which is
    uniform at exponent 1 as here, and tokens between queries may be random ones.

    Args:
        length: T, at least 3N.
        pairs: N, at least 1.
        keys: K, at least N.
        values: V, at least N and 2.

    Raises:
        ValueError: an argument is not an integer or too small.
    """

    length: int = 64
    pairs: int = 4
    keys: int = 8
    values: int = 8

    def __post_init__(self):
        check_integer("pairs", self.pairs, 1)
        check_integer("length", self.length, 3 * self.pairs)
        check_integer("keys", self.keys, self.pairs)
        check_integer("values", self.values, max(2, self.pairs))

    @property
    def input_size(self) -> int:
        return self.keys + self.values + 1

    @property
    def output_size(self) -> int:
        return self.values

    @property
    def total_length(self) -> int:
        return self.length

    @property
    def chance(self) -> float:
        return math.log(self.values)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        key_key, value_key, place_key = jax.random.split(key, 3)
        count, first = self.pairs, 2 * self.pairs  # the first step after the pairs
        keys = jax.random.permutation(key_key, self.keys)[:count]
        values = jax.random.permutation(value_key, self.values)[:count]
        places = first + jax.random.permutation(place_key, self.length - first)[:count]
        read = jnp.full(self.length, self.keys + self.values, jnp.int32)
        read = read.at[0:first:2].set(keys).at[1:first:2].set(self.keys + values)
        read = read.at[places].set(keys)
        targets = jnp.zeros_like(read).at[places].set(values)
        mask = jnp.zeros(self.length, bool).at[places].set(True)
        return Batch(jax.nn.one_hot(read, self.input_size, dtype=jnp.float32), targets, mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        return round(float(metrics["accuracy"]), 6) >= 0.99
