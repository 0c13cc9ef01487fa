"""Documents as one stream of tokens, and windows cut from it.

Axis letters: N tokens of a stream, B batch, T steps of a window.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from rnnjax.datasets.batches import pad, shuffled_batches
from rnnjax.datasets.vocabulary import Vocabulary

if TYPE_CHECKING:
    import grain


def stream(texts: Iterable[str], vocabulary: Vocabulary) -> Int32[np.ndarray, " N"]:
    """Return the characters of all texts as one row of numbers: end, text, end, text, ..., end.

    A model that reads it starts every text from the end token of the text before.
    """
    end = np.array([1], np.int32)
    parts = [end]
    for text in texts:
        parts += [vocabulary.encode(text), end]
    return np.concatenate(parts)


def windows(
    tokens: Int32[np.ndarray, " N"], length: int, batch_size: int, *, seed: int
) -> "grain.DatasetIterator":
    """Iterate without end over `{"tokens": [B, length + 1]}`, windows with any start.

    Tokens 0 .. length-1 are the inputs, tokens 1 .. length the targets. In an epoch one window
    starts at each token. `get_state` and `set_state` make it resumable.

    Raises:
        ValueError: the stream is too short for the window; others as `shuffled_batches`.
    """
    if not 1 <= length < len(tokens):
        raise ValueError(
            f"length must be between 1 and {len(tokens) - 1}, the tokens less one; got {length}"
        )
    places = np.arange(length + 1)
    return shuffled_batches(
        {"start": np.arange(len(tokens) - length)},
        batch_size,
        seed=seed,
        transform=lambda batch: {"tokens": tokens[batch["start"][:, None] + places]},
    )


def spread_windows(
    tokens: Int32[np.ndarray, " N"], length: int, count: int
) -> Int32[np.ndarray, "count T"]:
    """Return `count` windows of length + 1 tokens, spread evenly from the first to the last."""
    starts = np.linspace(0, len(tokens) - length - 1, count).astype(int)
    return tokens[starts[:, None] + np.arange(length + 1)]


def whole_documents(
    texts: Sequence[str], vocabulary: Vocabulary, window: int
) -> dict[str, Int32[np.ndarray, "..."]]:
    """Return documents to be read from their start to their end, window by window.

    Returns:
        `tokens [D, 1 + T]`, for each of the D documents an end and then its characters, padded to a
        multiple of `window`; and `lengths [D]`, the number of characters.
    """
    rows = [stream([text], vocabulary)[:-1] for text in texts]
    longest = max(map(len, rows)) - 1
    tokens, lengths = pad(rows, 1 + window * -(-longest // window))
    return {"tokens": tokens, "lengths": lengths - 1}
