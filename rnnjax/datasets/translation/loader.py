"""Sentence pairs in two languages: messages of a user interface, everyday sentences, talks.

The default comes with a package and is of demonstration scale; the others are downloaded. In every
source a sentence is in one split only, in either language, regardless of its case and punctuation.

Sources: JupyterLab's French language pack; Tatoeba, as in Artetxe & Schwenk 2019,
arXiv:1812.10464; TED talks, as in Qi et al. 2018, arXiv:1804.06323.
"""

import os
from pathlib import Path
from typing import Any

from rnnjax.datasets import preparing
from rnnjax.datasets.translation.sources import SOURCES


def prepare(source: str = "jupyterlab", data_dir: str | os.PathLike | None = None) -> Path:
    """Write a source's pairs as ArrayRecord files, once, and return the directory that holds them.

    Raises:
        ValueError: there is no such source.
        ModuleNotFoundError, OSError, RuntimeError: as `rnnjax.datasets.preparing.prepare`.
    """
    return preparing.prepare(_builder(source), data_dir)


def load(
    split: str, source: str = "jupyterlab", data_dir: str | os.PathLike | None = None
) -> tuple[list[str], list[str]]:
    """Return the sentences of a split and their translations, unchanged.

    Args:
        split: "train", "validation" or "test".
        source: one of `SOURCES`.
        data_dir: the folder of all data sets, see `rnnjax.datasets.preparing.prepare`.

    Raises:
        ValueError: there is no such split or source; others as `prepare`.
    """
    rows = preparing.read(_builder(source), split, data_dir)
    return _texts(rows, "source"), _texts(rows, "target")


def _builder(source) -> Any:
    preparing.check_source(source, SOURCES)
    from rnnjax.datasets.translation.builder import BUILDERS  # imports TFDS

    return BUILDERS[source]


def _texts(rows, name):
    return [row[name].decode("utf-8") for row in rows]
