"""A causal Transformer: every step attends to the steps before it."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.layers.attention import masked_softmax
from rnnjax.layers.calls import first_given, without_noise
from rnnjax.layers.marks import mark
from rnnjax.layers.padding import at_last_step, last_rows, valid_steps, zero_padding


class TransformerCarry(NamedTuple):
    """A causal Transformer's memory: keys and values of the last steps, layer by layer."""

    position: Any  # [*batch], steps read so far
    keys: Any  # num_layers arrays [*batch, window - 1, H]
    values: Any


class Transformer(nn.Module):
    """Pre-norm blocks of causal self-attention and a two-layer perceptron, batch-major.

        x = W in_t + position_t;   x += attention(norm(x));   x += mlp(norm(x));   y = norm(x)

    Step t attends to the steps t - window + 1 .. t. Positions are sinusoids. It is called like
    `RNN`. Its carry holds the keys and values in the window, so it can stream. (The last norm makes
    the sum of an output's entries constant: put a head on top before you look at gradients.)
    Source: Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762; the norm comes
    before each part, as in Xiong et al. 2020, arXiv:2002.04745.

    Args:
        features: H, a multiple of `num_heads`.
        num_heads: attention heads.
        num_layers: blocks.
        mlp_dim: the hidden width of the perceptron; None means 4 H.
        window: how many steps a step attends to, including itself.
        dropout_rate: after attention and perceptron.
        time_major, return_carry: as in `RNN`.
        dtype: what the matmuls compute in; softmax and norms are float32 or wider.

    Raises:
        ValueError: `features` is not a multiple of `num_heads`.
    """

    features: int
    num_heads: int = 4
    num_layers: int = 2
    mlp_dim: int | None = None
    window: int = 1024
    dropout_rate: float = 0.0
    time_major: bool = False
    return_carry: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: TransformerCarry | None = None,
        seq_lengths: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        deterministic: bool | None = None,
    ) -> Any:
        """Return outputs `[*batch, T, H]` of `inputs [*batch, T, D]`; arguments as for `RNN`."""
        if self.features % self.num_heads:
            raise ValueError(
                f"features must be a multiple of num_heads = {self.num_heads}, got {self.features}"
            )
        time_major = first_given(time_major, self.time_major)
        return_carry = first_given(return_carry, self.return_carry)
        xs = jnp.moveaxis(inputs, 0, -2) if time_major else jnp.asarray(inputs)
        *batch, total, _ = xs.shape
        valid = valid_steps(seq_lengths, xs.shape[:-1])
        carry = initial_carry
        quiet = without_noise(self, deterministic)
        start = jnp.zeros(tuple(batch), jnp.int32) if carry is None else carry.position
        at = start[..., None] + jnp.arange(total)  # [*batch, T]
        xs = self._dense(self.features, "embed")(zero_padding(xs, valid))
        xs = xs + sinusoids(at, self.features).astype(xs.dtype)
        caches = []
        for i in range(self.num_layers):
            past = None if carry is None else (carry.keys[i], carry.values[i])
            normed = self._norm(f"attention_norm_{i}")(xs)
            added, cache = self._attention(i, normed, start, at, past)
            caches.append(cache)
            xs = xs + self._dropout(added, quiet)
            hidden = self._dense(self.mlp_dim or 4 * self.features, f"mlp_in_{i}")
            hidden = nn.gelu(hidden(self._norm(f"mlp_norm_{i}")(xs)))
            xs = xs + self._dropout(self._dense(self.features, f"mlp_out_{i}")(hidden), quiet)
            xs = mark(self, f"block_{i}", xs)
        ys = zero_padding(self._norm("norm")(xs), valid)
        ys = jnp.moveaxis(ys, -2, 0) if time_major else ys
        if not return_carry:
            return ys
        rows = [[self._kept(a, carry, seq_lengths) for a in cache] for cache in caches]
        keys, values = (tuple(column) for column in zip(*rows, strict=True))
        end = start + (total if seq_lengths is None else jnp.asarray(seq_lengths))
        return TransformerCarry(end.astype(jnp.int32), keys, values), ys

    @nn.nowrap
    def final_output(self, carry: Any, outputs: Array, seq_lengths: Any = None) -> Array:
        """Return `outputs [*batch, T, H]` at each sequence's last valid step; zero if none."""
        del carry
        return at_last_step(outputs, seq_lengths)

    def _kept(self, rows, carry, seq_lengths):
        """Return the last `window - 1` rows of keys or values `[*batch, S, H]`, zeros in front."""
        count = self.window - 1
        if carry is None:
            rows = jnp.pad(rows, [(0, 0)] * (rows.ndim - 2) + [(count, 0), (0, 0)])
        return last_rows(rows, count, seq_lengths)

    def _attention(self, i, xs, start, at, past):
        """Return the attention's output, and all keys and values, `[*batch, S, H]`."""
        query, key, value = (
            self._dense(self.features, f"{name}_{i}")(xs) for name in ("query", "key", "value")
        )
        sources = at
        if past is not None:
            key, value = (
                jnp.concatenate([old.astype(new.dtype), new], axis=-2)
                for old, new in zip(past, (key, value), strict=True)
            )
            before = start[..., None] + jnp.arange(1 - self.window, 0)
            sources = jnp.concatenate([before, at], axis=-1)
        apart = at[..., :, None] - sources[..., None, :]
        seen = (apart >= 0) & (apart < self.window) & (sources >= 0)[..., None, :]
        split = self.num_heads, self.features // self.num_heads
        q, k, v = (a.reshape(*a.shape[:-1], *split) for a in (query, key, value))
        scores = jnp.einsum("...tnh,...snh->...nts", q, k) / np.sqrt(q.shape[-1])
        weights = masked_softmax(scores, seen[..., None, :, :])
        self.sow("intermediates", f"weights_{i}", weights)
        heads = jnp.einsum("...nts,...snh->...tnh", weights.astype(v.dtype), v)
        added = self._dense(self.features, f"output_{i}")(heads.reshape(query.shape))
        return added, (key, value)

    def _dense(self, features, name):
        return nn.Dense(features, dtype=self.dtype, name=name)

    def _norm(self, name):
        return nn.LayerNorm(dtype=self.dtype, name=name)

    def _dropout(self, xs, quiet):
        return nn.Dropout(self.dropout_rate)(xs, deterministic=quiet)


def sinusoids(positions: Array, features: int) -> Array:
    """Return sin and cos of position / 10000^(2i / features), `[*positions.shape, features]`.

    Source: Vaswani et al. 2017, section 3.5 (there sines and cosines alternate).
    """
    half = (features + 1) // 2
    angles = positions[..., None] / 10000 ** (2 * np.arange(half) / features)
    both = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return both[..., :features]
