"""Attention over the steps of a sequence, and pooling of a whole sequence, batch-major."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.layers.padding import valid_steps, zero_padding


def masked_softmax(scores: Array, valid: Any) -> Array:
    """Return the softmax over the last axis of the valid scores; zero elsewhere.

    Computed in float32 or wider. If nothing is valid, all weights are zero.
    """
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if valid is None:
        valid = jnp.ones((), bool)
    scores = jnp.where(valid, scores, -jnp.inf)
    peak = lax.stop_gradient(jnp.max(scores, -1, keepdims=True, initial=-jnp.inf))
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    weights = jnp.where(valid, jnp.exp(jnp.where(valid, scores, 0) - peak), 0)
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1)


class AdditiveAttention(nn.Module):
    """a = softmax_s(e),  e_ts = v . tanh(W q_t + U k_s + b),  context_t = sum_s a_ts k_s.

    Source: Bahdanau, Cho, Bengio 2015, "Neural machine translation by jointly learning to align
    and translate", arXiv:1409.0473, section A.1.2.

    Args:
        features: the width of the hidden layer.
        dtype: what the matmuls compute in; the softmax is float32 or wider.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self, queries: Array, keys: Array, *, seq_lengths: Any = None, mask: Any = None
    ) -> tuple[Array, Array]:
        """Return contexts `[*batch, T, K]` and weights `[*batch, T, S]`.

        Args:
            queries: `[*batch, T, Q]`.
            keys: `[*batch, S, K]`, the sequence to attend to.
            seq_lengths: valid steps of the keys, `[*batch]`. Weights are zero in the padding, and
                everywhere if no step is valid.
            mask: booleans `[*batch, S]`, false where a key has no weight.
        """
        keys, valid = _masked(keys, seq_lengths, mask)
        q = nn.Dense(self.features, dtype=self.dtype, name="query")(queries)
        k = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name="key")(keys)
        hidden = jnp.tanh(q[..., :, None, :] + k[..., None, :, :])
        scores = nn.Dense(1, use_bias=False, dtype=self.dtype, name="score")(hidden)[..., 0]
        return _read(self, scores, keys, valid)


class DotProductAttention(nn.Module):
    """a = softmax_s(e),  e_ts = (W q_t) . (U k_s) / sqrt(features),  context_t = sum_s a_ts k_s.

    Sources: Luong, Pham, Manning 2015, "Effective approaches to attention-based neural machine
    translation", arXiv:1508.04025, equation 8 (general); the scale is that of Vaswani et al. 2017,
    equation 1.

    Args:
        features: the common width of projected queries and keys.
        dtype: what the matmuls compute in; the softmax is float32 or wider.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self, queries: Array, keys: Array, *, seq_lengths: Any = None, mask: Any = None
    ) -> tuple[Array, Array]:
        """Return contexts `[*batch, T, K]` and weights `[*batch, T, S]`, as `AdditiveAttention`."""
        keys, valid = _masked(keys, seq_lengths, mask)
        q = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name="query")(queries)
        k = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name="key")(keys)
        scores = jnp.einsum("...tf,...sf->...ts", q, k) / math.sqrt(self.features)
        return _read(self, scores, keys, valid)


def _masked(keys, seq_lengths, mask):
    valid = valid_steps(seq_lengths, keys.shape[:-1], mask=mask)
    return zero_padding(keys, valid), valid


def _read(module, scores, keys, valid):
    weights = masked_softmax(scores, None if valid is None else valid[..., None, :])
    module.sow("intermediates", "weights", weights)
    return jnp.einsum("...ts,...sk->...tk", weights.astype(keys.dtype), keys), weights


def last_state(
    outputs: Array, final: Callable[[], Array], seq_lengths: Any = None, mask: Any = None
) -> Array:
    """Return the layer's final output, pooling by its memory alone, `[*batch, H]`."""
    del outputs, seq_lengths, mask
    return final()


def mean_state(
    outputs: Array, final: Any = None, seq_lengths: Any = None, mask: Any = None
) -> Array:
    """Return the mean of `outputs [*batch, T, H]` over the steps that count; zero without any."""
    del final
    valid = valid_steps(seq_lengths, outputs.shape[:-1], mask=mask)
    if valid is None:
        return outputs.sum(-2) / max(1, outputs.shape[-2])
    count = jnp.maximum(valid.sum(-1, keepdims=True), 1)
    return zero_padding(outputs, valid).sum(-2) / count.astype(outputs.dtype)


class AttentionPooling(nn.Module):
    """y = sum_t a_t h_t,  a = softmax_t(v . tanh(W h_t + b)): one learned query.

    Source: Yang et al. 2016, "Hierarchical attention networks for document classification",
    equations 5-7.

    Args:
        features: the width of the hidden layer.
        dtype: what the matmuls compute in; the softmax is float32 or wider.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self, outputs: Array, final: Any = None, seq_lengths: Any = None, mask: Any = None
    ) -> Array:
        """Return the weighted mean of `outputs [*batch, T, H]`; zero if no step counts."""
        del final
        outputs, valid = _masked(outputs, seq_lengths, mask)
        hidden = jnp.tanh(nn.Dense(self.features, dtype=self.dtype, name="key")(outputs))
        scores = nn.Dense(1, use_bias=False, dtype=self.dtype, name="score")(hidden)[..., 0]
        weights = masked_softmax(scores, valid)
        self.sow("intermediates", "weights", weights)
        return jnp.einsum("...t,...th->...h", weights.astype(outputs.dtype), outputs)
