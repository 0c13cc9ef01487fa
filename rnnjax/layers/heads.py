"""Output heads: a linear map, and the distribution that its outputs describe.

Each head has `loss(outputs, targets)`, for each step, `mode(outputs)`, the best single target, and
`sample(outputs, key=)`, which draws a target. These three need no parameters, so they are called
on the class or on an unbound head. `CRFHead`, for sequences of classes that depend on each other,
has the same three (`rnnjax.layers.crf`).
"""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rnnjax.layers.padding import valid_steps, zero_padding
from rnnjax.recurrence.options import known


class Head(nn.Module):
    """The base of all heads: y = W h + b, with zeros in the padding. Abstract.

    A subclass adds `loss`, `mode` and `sample`, as static methods.

    Args:
        features: the number of classes, yes-no answers or values.
        dtype: what the matmul computes in; outputs are float32 or wider.
    """

    outputs_per_feature: ClassVar[int] = 1

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, *, seq_lengths: Any = None) -> Array:
        """Return `[*batch, T, features * outputs_per_feature]` of `inputs [*batch, T, H]`."""
        width = self.features * self.outputs_per_feature
        return linear_map(inputs, width, seq_lengths=seq_lengths, dtype=self.dtype)


def linear_map(inputs: Array, width: int, *, seq_lengths: Any, dtype: Any) -> Array:
    """Return W h + b, `[*batch, T, width]`, float32 or wider, with zeros in the padding.

    W and b are parameters of the head that calls this, under the name "dense".
    """
    valid = None if seq_lengths is None else valid_steps(seq_lengths, inputs.shape[:-1])
    ys = nn.Dense(width, dtype=dtype, name="dense")(zero_padding(inputs, valid))
    return zero_padding(ys.astype(jnp.promote_types(ys.dtype, jnp.float32)), valid)


class SoftmaxHead(Head):
    """Logits over classes or a vocabulary: p(k) = softmax(W h + b)_k.

    `features` is K, the number of classes.
    """

    @staticmethod
    def loss(
        outputs: Float[Array, "*n K"], targets: Int[Array, "*n"], *, ignore_label: int | None = None
    ) -> Float[Array, "*n"]:
        """Return the cross-entropy -ln p(target), in nats.

        A target that is no class is an error where its value is known; under `jax.jit`, where it
        is not, its loss is NaN.

        Args:
            ignore_label: a target that does not count, such as -100: its loss is 0.

        Raises:
            ValueError: a target, where it is known, is neither in 0..K-1 nor `ignore_label`.
        """
        classes, given = outputs.shape[-1], known(targets)
        if given is not None:
            wrong = (given < 0) | (given >= classes)
            wrong &= given != ignore_label if ignore_label is not None else True
            if wrong.any():
                raise ValueError(
                    f"targets must lie in 0..K-1 = 0..{classes - 1}, got {given[wrong].flat[0]}; "
                    "with ignore_label, one value stands for targets that do not count"
                )
        ignored = None if ignore_label is None else targets == ignore_label
        if ignored is not None:
            targets = jnp.where(ignored, 0, targets)
        targets = jnp.where(targets < 0, classes, targets)  # else they count from the last class
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return loss if ignored is None else jnp.where(ignored, 0, loss)

    @staticmethod
    def mode(outputs: Float[Array, "*n K"]) -> Int[Array, "*n"]:
        """Return the most probable class."""
        return outputs.argmax(-1)

    @staticmethod
    def sample(outputs: Float[Array, "*n K"], *, key: Array) -> Int[Array, "*n"]:
        """Draw a class."""
        return jax.random.categorical(key, outputs)


class LogisticHead(Head):
    """Logits of independent yes-no answers: p_i = s(W h + b)_i."""

    features: int = 1

    @staticmethod
    def loss(outputs: Float[Array, "*n O"], targets: Float[Array, "*n O"]) -> Float[Array, "*n"]:
        """Return the sum of the binary cross-entropies, in nats; targets in 0..1."""
        return optax.sigmoid_binary_cross_entropy(outputs, targets).sum(-1)

    @staticmethod
    def mode(outputs: Float[Array, "*n O"]) -> Float[Array, "*n O"]:
        """Return 1 where yes is the more probable answer, else 0."""
        return (outputs > 0).astype(outputs.dtype)

    @staticmethod
    def sample(outputs: Float[Array, "*n O"], *, key: Array) -> Float[Array, "*n O"]:
        """Draw each answer, 0 or 1."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(outputs.dtype)


class LinearHead(Head):
    """Real values: y = W h + b."""

    features: int = 1

    @staticmethod
    def loss(outputs: Float[Array, "*n O"], targets: Float[Array, "*n O"]) -> Float[Array, "*n"]:
        """Return the squared error, averaged over the values."""
        return jnp.square(outputs - targets).mean(-1)

    @staticmethod
    def mode(outputs: Float[Array, "*n O"]) -> Float[Array, "*n O"]:
        """Return y."""
        return outputs

    @staticmethod
    def sample(outputs: Float[Array, "*n O"], *, key: Array) -> Float[Array, "*n O"]:
        """Return y, which has no noise."""
        del key
        return outputs


class GaussianHead(Head):
    """Real values with their variances: N(m, v), (m, ln v) = W h + b.

    Source: Nix, Weigend 1994, "Estimating the mean and variance of the target probability
    distribution".

    Outputs `[*batch, T, 2 features]` are the means, then the log variances.
    """

    outputs_per_feature = 2

    features: int = 1

    @staticmethod
    def loss(outputs: Float[Array, "*n P"], targets: Float[Array, "*n O"]) -> Float[Array, "*n"]:
        """Return -ln N(target; m, v), summed over the values, in nats."""
        mean, log_variance = jnp.split(outputs, 2, -1)
        squared = jnp.square(targets - mean) * jnp.exp(-log_variance)
        return (0.5 * (math.log(2 * math.pi) + log_variance + squared)).sum(-1)

    @staticmethod
    def mode(outputs: Float[Array, "*n P"]) -> Float[Array, "*n O"]:
        """Return the means."""
        return jnp.split(outputs, 2, -1)[0]

    @staticmethod
    def sample(outputs: Float[Array, "*n P"], *, key: Array) -> Float[Array, "*n O"]:
        """Draw the values."""
        mean, log_variance = jnp.split(outputs, 2, -1)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        return mean + jnp.exp(log_variance / 2) * noise
