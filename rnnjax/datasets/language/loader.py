"""Texts for language models, by document: Python's help topics and Shakespeare's plays."""

import os
from pathlib import Path
from typing import Any

from rnnjax.datasets import preparing
from rnnjax.datasets.language.sources import SOURCES


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
        data_dir: the folder of all data sets, see `rnnjax.datasets.preparing.prepare`.

    Raises:
        ValueError: there is no such split or source; others as `prepare`.
    """
    rows = preparing.read(_builder(source), split, data_dir)
    return {row["name"].decode("utf-8"): row["text"].decode("utf-8") for row in rows}


def _builder(source) -> Any:
    preparing.check_source(source, SOURCES)
    from rnnjax.datasets.language.builder import BUILDERS  # imports TFDS

    return BUILDERS[source]
