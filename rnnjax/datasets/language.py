"""Texts for language models, by document: Python's help topics, and Shakespeare's plays.

Axis letters: N tokens of a stream, B batch, T steps of a window.
"""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from rnnjax.datasets import preparing
from rnnjax.datasets.batches import shuffled_batches
from rnnjax.datasets.vocabulary import Vocabulary

if TYPE_CHECKING:
    import grain


class Source(NamedTuple):
    """One collection of documents."""

    builder: str  # a class of `language_builder`
    description: str  # for reports: what it is, and of which scale


SOURCES = {
    "python_topics": Source(
        "PythonTopics",
        f"the help topics of Python {platform.python_version()} (pydoc_data), English and code, "
        "split by topic: demonstration scale",
    ),
    "tiny_shakespeare": Source(
        "TinyShakespeare",
        "40,000 lines of Shakespeare's plays (tiny_shakespeare), test is the last twentieth",
    ),
}


def prepare(source: str = "python_topics", data_dir: str | os.PathLike | None = None) -> Path:
    """Write a source's documents as ArrayRecord files, once, and return their directory.

    Raises:
        ValueError: there is no such source.
        ModuleNotFoundError, OSError, RuntimeError: as `rnnjax.datasets.preparing.prepare`.
    """
    return preparing.prepare(_builder(source), data_dir)


def load(
    split: str, source: str = "python_topics", data_dir: str | os.PathLike | None = None
) -> dict[str, str]:
    """Return the documents of a split, name -> text.

    Args:
        split: "train", "validation" or "test".
        source: one of `SOURCES`.
        data_dir: where data sets are kept, see `rnnjax.datasets.preparing.prepare`.

    Raises:
        ValueError: there is no such split or source; others as `prepare`.
    """
    rows = preparing.read(_builder(source), split, data_dir)
    return {row["name"].decode("utf-8"): row["text"].decode("utf-8") for row in rows}


def _builder(source) -> Any:
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    from rnnjax.datasets import language_builder

    return getattr(language_builder, SOURCES[source].builder)


def stream(texts: Iterable[str], vocabulary: Vocabulary) -> Int32[np.ndarray, " N"]:
    """Return the characters of all texts as one row of numbers: an end, a text, an end, a text ...

    A model that reads it starts every text from the token that ends the one before.
    """
    end = np.array([1], np.int32)
    parts = [end]
    for text in texts:
        parts += [vocabulary.encode(text), end]
    return np.concatenate(parts)


def windows(
    tokens: Int32[np.ndarray, " N"], length: int, batch_size: int, *, seed: int
) -> "grain.DatasetIterator":
    """Iterate without end over `{"tokens": [B, length + 1]}`, windows that start anywhere.

    Steps 0 .. length-1 are what is read, 1 .. length what is to be said. In an epoch a window
    starts at each token once. `get_state` and `set_state` make it resumable.

    Raises:
        ValueError: the stream is too short for so long a window, or as `shuffled_batches`.
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
