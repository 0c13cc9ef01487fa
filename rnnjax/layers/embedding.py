"""Embeddings: a table of vectors, drawn or pretrained, tuned or frozen."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rnnjax.cells.initializers import Initializer
from rnnjax.layers.padding import valid_steps, zero_padding
from rnnjax.recurrence.options import known


class Embed(nn.Module):
    """A table E `[V, features]`: token k becomes row k, batch-major.

    A tuned table is the parameter "embedding". A frozen table is a variable of the collection
    "constants", which gradients and weight decay do not reach.

    Args:
        num_embeddings: V, the size of the vocabulary.
        features: the length of a row.
        embedding_init: initialiser of the table; `pretrained(table)` for a given one.
        frozen: keep the table as it is.
        dtype: of the outputs; None means the table's.
        param_dtype: of the table.
    """

    num_embeddings: int
    features: int
    embedding_init: Initializer = nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", out_axis=0
    )
    frozen: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, *, seq_lengths: Any = None, mask: Any = None) -> Array:
        """Return the rows of tokens `[*batch, T]` (or of any shape): `[*batch, T, features]`.

        Past the end by `seq_lengths`, and where `mask [*batch, T]` is false, rows are zero.

        Raises:
            TypeError: the tokens are not integers.
            ValueError: a token is not in 0..V-1 (if it is traced, its row is NaN instead), or
                `seq_lengths` or `mask` does not fit.
        """
        given, tokens = known(inputs), jnp.asarray(inputs)
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise TypeError(f"tokens must be integers, got {tokens.dtype}")
        anything = seq_lengths is None and mask is None
        valid = None if anything else valid_steps(seq_lengths, tokens.shape, mask=mask)
        if valid is not None:
            tokens = jnp.where(valid, tokens, 0)
        elif given is not None and given.size:
            low, high = int(given.min()), int(given.max())
            if low < 0 or high >= self.num_embeddings:
                raise ValueError(
                    f"tokens must lie in 0..{self.num_embeddings - 1}, got {low}..{high}"
                )
        tokens = jnp.where(tokens < 0, self.num_embeddings, tokens)  # not from the end
        rows = jnp.take(self._table(), tokens, axis=0)
        return zero_padding(rows if self.dtype is None else rows.astype(self.dtype), valid)

    @nn.compact
    def attend(self, queries: Array) -> Array:
        """Return `queries E^T`, logits `[*batch, T, V]` over the vocabulary: tied output weights.

        Source: Press, Wolf 2017, "Using the output embedding to improve language models".
        """
        return queries @ self._table().astype(queries.dtype).T

    def _table(self):
        arguments = (self.num_embeddings, self.features), self.param_dtype
        if not self.frozen:
            return self.param("embedding", self.embedding_init, *arguments)

        def draw():
            return self.embedding_init(self.make_rng("params"), *arguments)

        table: Any = self.variable("constants", "embedding", draw).value
        return jax.lax.stop_gradient(table)


def pretrained(table: Any) -> Initializer:
    """Return an initialiser that returns this table, such as `rnnjax.word_vectors.table`'s.

    Raises:
        ValueError: the initialiser is called with another shape.
    """
    table = jnp.asarray(table)

    def init(key, shape, dtype=jnp.float32):
        del key
        if table.shape != tuple(shape):
            raise ValueError(f"the pretrained table has shape {table.shape}, the layer {shape}")
        return table.astype(dtype)

    return init
