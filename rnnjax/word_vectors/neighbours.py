"""The words nearest to a word or a vector, and analogies."""

import numpy as np
from jax.typing import ArrayLike

from rnnjax.word_vectors.keyed import KeyedVectors


def nearest(
    vectors: KeyedVectors, word_or_vector: str | ArrayLike, count: int = 10
) -> list[tuple[str, float]]:
    """Return the `count` words nearest to a word (without itself) or a vector `[D]`, by cosine.

    The nearest comes first, with its cosine; the order of ties is unspecified. The cosine with a
    zero vector is 0: to achieve that, `vectors.norms`, gensim's lengths, are set to 1 there.

    Raises:
        ValueError: the word is not known; the vector has another shape or is not finite; `count`
            is not positive.
    """
    if isinstance(word_or_vector, str):
        _prepare(vectors, count, word_or_vector)
        return vectors.most_similar(word_or_vector, topn=count)
    _prepare(vectors, count)
    vector = np.asarray(word_or_vector, np.float64)
    if vector.shape != (vectors.vector_size,) or not np.isfinite(vector).all():
        raise ValueError(
            f"word_or_vector must be a word or {vectors.vector_size} finite numbers, "
            f"got shape {vector.shape}"
        )
    return vectors.similar_by_vector(vector / (np.linalg.norm(vector) or 1), topn=count)


def analogy(
    vectors: KeyedVectors, a: str, b: str, c: str, count: int = 10
) -> list[tuple[str, float]]:
    """Return the `count` words that are to c as b is to a, best first, with their cosines.

        argmax over words d, other than a, b and c, of cos(d, b - a + c),    all of length one

    Ties and zero vectors are treated as in `nearest`.

    Raises:
        ValueError: a word is not known, or `count` is not positive.

    Source: Mikolov, Yih, Zweig 2013, "Linguistic regularities in continuous space word
    representations"; 3CosAdd in Levy, Goldberg 2014, "Linguistic regularities in sparse and
    explicit word representations".
    """
    _prepare(vectors, count, a, b, c)
    return vectors.most_similar(positive=[b, c], negative=[a], topn=count)


def _prepare(vectors, count, *words):
    """Check the arguments, and replace zero lengths, by which gensim would divide."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    for word in words:
        if word not in vectors.key_to_index:
            raise ValueError(
                f"word {word!r} is not among the {len(vectors)} words of these vectors"
            )
    rows, norms = vectors.vectors, vectors.norms
    if norms is None or len(norms) != len(rows):  # words were added; gensim does not notice
        squares = np.einsum("vd,vd->v", rows, rows, dtype=np.float64)  # float32 would overflow
        norms = np.sqrt(squares).astype(np.float32)
    vectors.norms = np.where(norms > 0, norms, np.float32(1))
