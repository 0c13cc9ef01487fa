"""Output heads: one linear map, and what its outputs mean.

Each has `loss(outputs, targets)`, for every step by itself, `mode(outputs)`, its best single answer
as a target, and `sample(outputs, key=)`, which draws one. These three need no parameters, so they
are called on the class or on a head that was never bound.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rnnjax.layers.padding import valid_steps, zero_padding


def _affine(inputs, features, seq_lengths, dtype):
    """Return `inputs W + b`, float32 or wider, with zeros in the padding."""
    valid = None if seq_lengths is None else valid_steps(seq_lengths, inputs.shape[:-1])
    ys = nn.Dense(features, dtype=dtype, name="dense")(zero_padding(inputs, valid))
    return zero_padding(ys.astype(jnp.promote_types(ys.dtype, jnp.float32)), valid)


class SoftmaxHead(nn.Module):
    """Logits over classes or a vocabulary: p(k) = softmax(W h + b)_k.

    Args:
        features: K, the number of classes.
        dtype: what the matmul computes in; outputs are float32 or wider.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, *, seq_lengths: Any = None) -> Array:
        """Return logits `[*batch, T, K]` of `inputs [*batch, T, H]`."""
        return _affine(inputs, self.features, seq_lengths, self.dtype)

    @staticmethod
    def loss(outputs: Float[Array, "*n K"], targets: Int[Array, "*n"]) -> Float[Array, "*n"]:
        """Return the cross-entropy -ln p(target), in nats."""
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)

    @staticmethod
    def mode(outputs: Float[Array, "*n K"]) -> Int[Array, "*n"]:
        """Return the most probable class."""
        return outputs.argmax(-1)

    @staticmethod
    def sample(outputs: Float[Array, "*n K"], *, key: Array) -> Int[Array, "*n"]:
        """Draw a class."""
        return jax.random.categorical(key, outputs)


class LogisticHead(nn.Module):
    """Logits of independent yes-no answers: p_i = s(W h + b)_i.

    Args:
        features: the number of answers.
        dtype: what the matmul computes in; outputs are float32 or wider.
    """

    features: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, *, seq_lengths: Any = None) -> Array:
        """Return logits `[*batch, T, features]` of `inputs [*batch, T, H]`."""
        return _affine(inputs, self.features, seq_lengths, self.dtype)

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


class LinearHead(nn.Module):
    """Real values: y = W h + b.

    Args:
        features: the number of values.
        dtype: what the matmul computes in; outputs are float32 or wider.
    """

    features: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, *, seq_lengths: Any = None) -> Array:
        """Return `[*batch, T, features]` of `inputs [*batch, T, H]`."""
        return _affine(inputs, self.features, seq_lengths, self.dtype)

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
        """Return y: there is nothing to draw."""
        del key
        return outputs


class GaussianHead(nn.Module):
    """Real values with an uncertainty of their own: N(m, v), (m, ln v) = W h + b.

    Source: Nix, Weigend 1994, "Estimating the mean and variance of the target probability
    distribution".

    Args:
        features: the number of values; outputs hold their means, then their log variances.
        dtype: what the matmul computes in; outputs are float32 or wider.
    """

    features: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, *, seq_lengths: Any = None) -> Array:
        """Return `[*batch, T, 2 features]` of `inputs [*batch, T, H]`."""
        return _affine(inputs, 2 * self.features, seq_lengths, self.dtype)

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
