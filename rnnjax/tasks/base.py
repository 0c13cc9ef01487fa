"""What a task is: sequences, a loss, a chance level, and a rule for when it is solved.

Axis letters: T time, B batch, D input features, O outputs.
"""

import abc
import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsFloat

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


class Batch(NamedTuple):
    """A batch of sequences, time-major: the layout that `rnnjax.unroll` takes and returns.

    Attributes:
        inputs: what the network reads, `[T, B, D]`, float32.
        targets: class labels `[T, B]`, int32, or real values `[T, B, O]`, float32; zero at steps
            that are not scored.
        mask: `[T, B]`, true at scored steps.
    """

    inputs: Any
    targets: Any
    mask: Any


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """A distribution over sequences, with a loss, a chance level and a rule for success.

    Subclass `Regression` or `Classification` with a frozen dataclass of hashable hyperparameters,
    so that a task can be a static argument of `jax.jit`. Everything except `success` is pure JAX.
    Add `Sampled` if the sequences are synthetic.
    Variants that papers define differently are different tasks, each named after its paper.

    Args:
        length: T in the paper. The arrays may be longer: see `total_length`.
    """

    length: int

    @property
    @abc.abstractmethod
    def input_size(self) -> int:
        """D, the number of input features."""

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """O, the number of outputs: real values, or classes."""

    @property
    @abc.abstractmethod
    def total_length(self) -> int:
        """T of the arrays that `sample` returns."""

    @property
    @abc.abstractmethod
    def chance(self) -> float:
        """The smallest expected loss of answers that are fixed in advance for each step."""

    @abc.abstractmethod
    def step_losses(self, outputs: Float[Array, "T B O"], targets: Array) -> Float[Array, "T B"]:
        """Return the loss of every step, scored or not."""

    @abc.abstractmethod
    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether each sequence was answered correctly, by the paper's criterion."""

    @abc.abstractmethod
    def success(self, metrics: Mapping[str, SupportsFloat]) -> bool:
        """Return whether a run with these `metrics` of held-out sequences has solved the task."""

    def example_losses(self, outputs: Float[Array, "T B O"], batch: Batch) -> Float[Array, " B"]:
        """Return each sequence's own mean loss over its scored steps.

        Outputs at other steps have no influence and a gradient of exactly zero, even if they
        are not finite. The loss is computed in float32 or wider.

        Raises:
            ValueError: `outputs` is not `[T, B, output_size]`.
        """
        check_outputs(self, outputs, batch)
        outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        outputs = jnp.where(batch.mask[..., None], outputs, 0)
        losses = jnp.where(batch.mask, self.step_losses(outputs, batch.targets), 0)
        return losses.sum(axis=0) / jnp.maximum(batch.mask.sum(axis=0), 1)

    def loss(self, outputs: Float[Array, "T B O"], batch: Batch) -> Float[Array, ""]:
        """Return the mean of `example_losses`."""
        return self.example_losses(outputs, batch).mean()

    def metrics(self, outputs: Float[Array, "T B O"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Return `loss` and `accuracy`, the share of sequences that are `correct`."""
        accuracy = self.correct(outputs, batch).mean()
        return {"loss": self.loss(outputs, batch), "accuracy": accuracy}


class Sampled(abc.ABC):
    """What a synthetic task adds to a `Task`: sequences drawn on the device, in pure JAX.

    Sequences of real data come from `rnnjax.datasets` instead.
    """

    @abc.abstractmethod
    def sample_sequence(self, key: PRNGKeyArray) -> Batch:
        """Draw one sequence: a `Batch` whose arrays lack the B axis."""

    def sample(self, key: PRNGKeyArray, batch_size: int) -> Batch:
        """Draw `batch_size` independent sequences; the same key gives the same batch.

        A smaller batch has the first sequences of a larger one.

        Raises:
            ValueError: `batch_size` is not a positive integer.
        """
        check_integer("batch_size", batch_size, 1)
        return jax.vmap(self.sample_sequence, out_axes=1)(jax.random.split(key, batch_size))


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """A task with real targets and the squared error, the mean over outputs of `(y - target)^2`.

    A sequence is correct if every output is closer than `tolerance` at every scored step.
    """

    @property
    @abc.abstractmethod
    def tolerance(self) -> float:
        """The absolute error below which an output is right."""

    def step_losses(self, outputs: Float[Array, "T B O"], targets: Array) -> Float[Array, "T B"]:
        """Return the squared error, averaged over outputs."""
        return jnp.square(outputs - targets).mean(axis=-1)

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether all scored outputs are within the tolerance."""
        check_outputs(self, outputs, batch)
        hits = (jnp.abs(outputs - batch.targets) < self.tolerance).all(axis=-1)
        return (hits | ~batch.mask).all(axis=0)


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """A task with integer labels k and the cross-entropy `-log softmax(outputs)_k`, in nats.

    Outputs are logits. A sequence is correct if the most probable class is right at every scored
    step, unless a task says otherwise.
    """

    def step_losses(self, outputs: Float[Array, "T B O"], targets: Array) -> Float[Array, "T B"]:
        """Return the cross-entropy."""
        log_probabilities = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]

    def hits(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, "T B"]:
        """Return for every step, scored or not, whether the largest logit is the target's."""
        check_outputs(self, outputs, batch)
        return outputs.argmax(axis=-1) == batch.targets

    def correct(self, outputs: Float[Array, "T B O"], batch: Batch) -> Bool[Array, " B"]:
        """Return whether the most probable class is right at every scored step."""
        return (self.hits(outputs, batch) | ~batch.mask).all(axis=0)


def last_answer(batch: Batch) -> tuple[Int[Array, " B"], Batch]:
    """Return the number of steps up to each sequence's last scored step, and that step's batch.

    The number `[B]` includes the scored step: as `seq_lengths` of `rnnjax.unroll` it makes the
    final carry the one that answers. The batch has T = 1: inputs, targets and mask of that step.
    """
    lengths = batch.mask.shape[0] - jnp.argmax(batch.mask[::-1], axis=0)

    def at_end(steps):
        return jax.vmap(lambda s, t: s[t - 1][None], (1, 0), 1)(steps, lengths)

    return lengths, jax.tree.map(at_end, batch)


class Question(NamedTuple):
    """Sequences that are answered once, at their ends; batch-major, the layout of Flax layers."""

    inputs: Any  # [B, T, D]
    lengths: Any  # [B]
    answer: Batch  # of the last scored step, T = 1


def ask(batch: Batch) -> Question:
    """Return the sequences of a batch up to their last scored step: see `last_answer`."""
    lengths, answer = last_answer(batch)
    return Question(jnp.swapaxes(batch.inputs, 0, 1), lengths, answer)


def check_integer(name: str, value: Any, minimum: int) -> None:
    """Raise a ValueError that names the argument unless `value` is an integer >= `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {value!r}")


def check_outputs(task: Task, outputs: Array, batch: Batch) -> None:
    """Raise a ValueError unless `outputs` is `[T, B, O]`: other shapes might broadcast."""
    expected = (*batch.mask.shape, task.output_size)
    if outputs.shape != expected:
        raise ValueError(f"outputs must be [T, B, O] = {expected}, got {outputs.shape}")
