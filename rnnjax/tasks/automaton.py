"""Strings that a finite automaton reads: say at the last step where it ended."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

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
    """

    def __post_init__(self):
        check_integer("length", self.length, 1)

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
        """The length of the strings."""
        return self.length

    @property
    def chance(self) -> float:
        """The entropy of the label, in nats."""
        successor, odds, label = self.automaton()
        reached = np.zeros(len(label))
        reached[0] = 1
        for _ in range(self.total_length):
            ahead = np.zeros_like(reached)
            np.add.at(ahead, successor, reached[:, None] * odds)
            reached = ahead
        shares = np.bincount(label, weights=reached)
        return -math.fsum(float(p) * math.log(p) for p in shares if p > 0)

    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        """Draw a string, symbol by symbol, and the class in which it ends."""
        successor, odds, label = map(jnp.asarray, self.automaton())
        ends = jnp.cumsum(odds, axis=1)[:, :-1].astype(jnp.float32)

        def read(state, place):
            symbol = (place >= ends[state]).sum()
            return successor[state, symbol], symbol

        places = jax.random.uniform(key, (self.total_length,), jnp.float32)
        state, symbols = lax.scan(read, jnp.asarray(0, successor.dtype), places)
        inputs = jax.nn.one_hot(symbols, self.input_size, dtype=jnp.float32)
        mask = jnp.arange(self.total_length) == self.total_length - 1
        return Batch(inputs, jnp.where(mask, label[state], 0).astype(jnp.int32), mask)

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether the class at the last step is right."""
        return self.hits(outputs, batch)[-1]

    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        """Return whether at least 99 % of the sequences are right."""
        return round(float(metrics["accuracy"]), 6) >= 0.99


def uniform(successor: np.ndarray, label: Any) -> Automaton:
    """Return the automaton that reads independent symbols, each as probable as the others."""
    odds = np.full(successor.shape, 1 / successor.shape[1])
    return Automaton(successor.astype(np.int32), odds, np.asarray(label, np.int32))
