"""Strings that a finite automaton reads: say at their last step where it ended."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PRNGKeyArray

from rnnjax.tasks.base import Batch, Classification, Sampled, check_integer


class Automaton(NamedTuple):
    """A finite automaton with S states that reads random strings over A symbols. It starts in 0."""

    successor: Any  # [S, A], the next state
    odds: Any  # [S, A], the distribution of the next symbol; a row sums to one
    label: Any  # [S], the class of a string that ends here


@dataclasses.dataclass(frozen=True)
class Language(Classification, Sampled):
    """Say at the last step the class of a string that an automaton has read: abstract.

    Inputs `[T, B, A]` are one-hot symbols. Targets `[T, B]` are labels, scored at the last step
    only. The loss is the cross-entropy; chance is the entropy of the label, found exactly from the
    automaton. A sequence is correct if the most probable class is right, and a run has succeeded if
    at least 99 % of sequences are, at whatever length it was tested.

    With `shortest`, the strings of one batch have different lengths, uniform in
    `shortest .. length`, as networks that generalise to longer ones are trained (Deletang et al.
    2023, arXiv:2207.02098). After the end of a string its inputs are zeros. Chance is then the mean
    over the lengths.

    Args:
        length: of the strings, at least 1.
        shortest: the length of the shortest strings; None means that all have the same length.

    Raises:
        ValueError: a length is not an integer or too small, or `shortest` exceeds `length`.
    """

    shortest: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        check_integer("length", self.length, 1)
        if self.shortest is not None:
            check_integer("shortest", self.shortest, 1)
            if self.shortest > self.length:
                raise ValueError(
                    f"shortest must be at most length = {self.length}, got {self.shortest}"
                )

    @abc.abstractmethod
    def automaton(self) -> Automaton:
        """Return the automaton, as NumPy arrays."""

    @property
    def input_size(self) -> int:
        """A, the number of symbols."""
        return self.automaton().successor.shape[1]

    @property
    def output_size(self) -> int:
        """The number of classes."""
        return int(self.automaton().label.max()) + 1

    @property
    def total_length(self) -> int:
        """The length of the longest strings."""
        return self.length

    @property
    def total_lengths(self) -> tuple[int, ...]:
        """The lengths that strings have, each as often as the others, in rising order."""
        if self.shortest is None:
            return (self.total_length,)
        given = range(self.shortest, self.length + 1)
        same = (dataclasses.replace(self, length=n, shortest=None) for n in given)
        return tuple(sorted({task.total_length for task in same}))

    @property
    def chance(self) -> float:
        """The entropy of the label, in nats."""
        successor, odds, label = self.automaton()
        reached, entropies = np.zeros(len(label)), []
        reached[0] = 1
        for length in range(1, self.total_length + 1):
            ahead = np.zeros_like(reached)
            np.add.at(ahead, successor, reached[:, None] * odds)
            reached = ahead
            if length in self.total_lengths:
                shares = np.bincount(label, weights=reached)
                entropies.append(-math.fsum(float(p) * math.log(p) for p in shares if p > 0))
        return math.fsum(entropies) / len(entropies)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        """Draw a string, symbol by symbol, and the class in which it ends."""
        successor, odds, label = map(jnp.asarray, self.automaton())
        ends = jnp.cumsum(odds, axis=1)[:, :-1].astype(jnp.float32)

        def read(state, place):
            symbol = (place >= ends[state]).sum()
            state = successor[state, symbol]
            return state, (state, symbol)

        time, lengths = jnp.arange(self.total_length), jnp.array(self.total_lengths)
        places = jax.random.uniform(key, time.shape, jnp.float32)
        _, (states, symbols) = lax.scan(read, jnp.asarray(0, successor.dtype), places)
        length = lengths[jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(lengths))]
        inputs = jax.nn.one_hot(symbols, self.input_size, dtype=jnp.float32)
        inputs, mask = jnp.where((time < length)[:, None], inputs, 0), time == length - 1
        return Batch(inputs, jnp.where(mask, label[states], 0).astype(jnp.int32), mask)

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        """Return whether at least 99 % of the sequences are right."""
        return round(float(metrics["accuracy"]), 6) >= 0.99


def uniform(successor: np.ndarray, label: Any) -> Automaton:
    """Return the automaton that reads independent symbols, each as probable as the others."""
    odds = np.full(successor.shape, 1 / successor.shape[1])
    return Automaton(successor.astype(np.int32), odds, np.asarray(label, np.int32))
