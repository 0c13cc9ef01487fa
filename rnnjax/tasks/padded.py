"""One task at several lengths, in one program: every batch is padded to the longest."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.tasks.base import Batch


def pad(batch: Batch, total_length: int) -> Batch:
    """Return a batch with `total_length` steps: zeros that are not scored follow its own."""

    def longer(steps):
        missing = total_length - len(steps)
        return jnp.pad(steps, ((0, missing), *((0, 0) for _ in steps.shape[1:])))

    return jax.tree.map(longer, batch)


@dataclasses.dataclass(frozen=True)
class Padded:
    """The same task at several lengths, of which a program chooses one by a traced number.

    Args:
        variants: that differ in their `length` only, each a `Sampled`. Whatever else they have is
            the same for all.
    """

    variants: tuple[Any, ...]

    def sample(self, key: Any, length: Any, batch_size: int) -> tuple[Batch, Any]:
        """Return what the variant of this length samples, padded with zeros that are not scored.

        Returns:
            The batch; and the length of each sequence, `[B]`.
        """
        longest = max(task.total_length for task in self.variants)
        drawn = [
            lambda key, task=task: pad(task.sample(key, batch_size), longest)
            for task in self.variants
        ]
        chosen = jnp.argmax(jnp.array([task.length for task in self.variants]) == length)
        totals = jnp.array([task.total_length for task in self.variants])
        return lax.switch(chosen, drawn, key), jnp.full(batch_size, totals[chosen])

    @property
    def input_size(self) -> int:
        """D, the number of input features."""
        return self.variants[0].input_size

    @property
    def output_size(self) -> int:
        """O, the number of outputs."""
        return self.variants[0].output_size

    @property
    def chance(self) -> float:
        """The loss of the best memoryless answer, at the first length."""
        return self.variants[0].chance

    @property
    def loss(self) -> Callable[[Any, Batch], Any]:
        """`loss(outputs, batch)`, as of a `Task`."""
        return self.variants[0].loss

    @property
    def metrics(self) -> Callable[[Any, Batch], dict[str, Any]]:
        """`metrics(outputs, batch)`, as of a `Task`."""
        return self.variants[0].metrics
