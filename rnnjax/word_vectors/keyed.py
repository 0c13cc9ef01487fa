"""gensim's `KeyedVectors`: what the vectors of this package are."""

from typing import Any

import numpy as np

KeyedVectors = Any  # gensim's, which importing this module does not load


def load_gensim() -> Any:
    """Return gensim, imported.

    Raises:
        ImportError: it is missing.
    """
    try:
        import gensim.models
        import gensim.utils
    except ImportError as error:
        raise ImportError("word vectors need gensim: pip install 'rnnjax[words]'") from error
    return gensim


def keyed(index: dict[str, int], rows: np.ndarray) -> KeyedVectors:
    """Return rows `[V, D]` as the vectors of the words whose places they are."""
    vectors: Any = load_gensim().models.KeyedVectors(rows.shape[1])
    vectors.key_to_index, vectors.index_to_key, vectors.vectors = index, list(index), rows
    return vectors
