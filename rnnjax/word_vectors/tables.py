"""From a trained embedding table to word vectors, and from word vectors to a table."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, PRNGKeyArray

from rnnjax.word_vectors.keyed import KeyedVectors, keyed


def from_table(words: Sequence[str], table: ArrayLike) -> KeyedVectors:
    """Return a copy of a trained embedding `[V, D]` as the vectors of its words, in float32.

    Raises:
        ValueError: the shapes do not fit, a word is repeated, a number is NaN or infinite.
    """
    index, rows = _index(words, "words"), np.array(table, np.float32)
    if rows.ndim != 2 or len(rows) != len(index) or not rows.size:
        raise ValueError(f"table must have shape ({len(index)}, D), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("table must be finite, got NaN or infinite numbers")
    return keyed(index, rows)


def table(
    vectors: KeyedVectors,
    vocabulary: Sequence[str],
    *,
    key: PRNGKeyArray,
    unknown_scale: float | int | None = None,
) -> tuple[Float32[Array, "V D"], list[str]]:
    """Return the rows of an embedding table for `vocabulary`, and the unknown words.

    A word missing from `vectors` is looked up in lower case. If that is missing too, its row i is
    drawn from N(0, s^2) with `fold_in(key, i)`: words added at the end change no earlier row.

    Args:
        unknown_scale: s; 0 gives zeros, None the standard deviation of all entries of `vectors`.

    Raises:
        ValueError: `vocabulary` is empty or repeats a word, `unknown_scale` is negative or not
            finite.
    """
    if unknown_scale is not None and not 0 <= unknown_scale < math.inf:
        raise ValueError(f"unknown_scale must be finite and at least 0, got {unknown_scale}")
    known, size = vectors.key_to_index, vectors.vector_size
    index = [known.get(w, known.get(w.lower(), -1)) for w in _index(vocabulary, "vocabulary")]
    rows = np.array(vectors.vectors[index], np.float32)
    unknown = [i for i, row in enumerate(index) if row < 0]
    if unknown:
        scale = vectors.vectors.std() if unknown_scale is None else unknown_scale

        def draw(i):
            return jax.random.normal(jax.random.fold_in(key, i), (size,), jnp.float32)

        # Not vmap, under which rows of "rbg" keys depend on each other.
        rows[unknown] = scale * np.asarray(lax.map(draw, jnp.array(unknown)))
    return jnp.asarray(rows), [vocabulary[i] for i in unknown]


def _index(words, name):
    """Return the number of each word."""
    index = {}
    for word in words:
        if word in index:
            raise ValueError(f"{name} must not repeat a word, but {word!r} appears twice")
        index[word] = len(index)
    if not index:
        raise ValueError(f"{name} must hold at least one word")
    return index
