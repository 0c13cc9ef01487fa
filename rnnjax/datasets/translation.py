"""Sentence pairs in two languages: messages of a user interface, everyday sentences, talks.

The default comes with a package and is of demonstration scale; the others are downloaded. In every
source the same sentence, however it is written, is in one split only, on either side.

Sources: JupyterLab's French language pack; Tatoeba, as in Artetxe & Schwenk 2019,
arXiv:1812.10464; TED talks, as in Qi et al. 2018, arXiv:1804.06323.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rnnjax.datasets import preparing


class Source(NamedTuple):
    """One collection of pairs."""

    builder: str  # a class of `translation_builder`
    languages: tuple[str, str]
    description: str  # for reports: what it is, and of which scale


SOURCES = {
    "jupyterlab": Source(
        "JupyterlabEnFr",
        ("English", "French"),
        "messages of JupyterLab's user interface (package jupyterlab-language-pack-fr-FR), "
        "about 3,100 short pairs: demonstration scale, and no everyday language",
    ),
    "tatoeba": Source(
        "TatoebaEnFr",
        ("English", "French"),
        "1,000 everyday sentences of Tatoeba (the test set of LASER): demonstration scale",
    ),
    "ted": Source(
        "TedPtEn",
        ("Portuguese", "English"),
        "sentences of TED talks (ted_hrlr_translate/pt_to_en), about 52,000 pairs",
    ),
}


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
    """Return the sentences of a split and their translations, as they are written.

    Args:
        split: "train", "validation" or "test".
        source: one of `SOURCES`.
        data_dir: where data sets are kept, see `rnnjax.datasets.preparing.prepare`.

    Raises:
        ValueError: there is no such split or source; others as `prepare`.
    """
    rows = preparing.read(_builder(source), split, data_dir)
    return _texts(rows, "source"), _texts(rows, "target")


def _builder(source) -> Any:
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    from rnnjax.datasets import translation_builder

    return getattr(translation_builder, SOURCES[source].builder)


def _texts(rows, name):
    return [row[name].decode("utf-8") for row in rows]


def plain(text: str) -> str:
    """Return a text in lower case, with straight apostrophes and single spaces between words."""
    text = unicodedata.normalize("NFC", text.lower())
    return " ".join(text.replace("’", "'").replace("...", "…").split())


def tokenize(text: str) -> list[str]:
    """Return the words, placeholders and punctuation marks of a text, made `plain`.

    What stands before an apostrophe is a word with it, as French articles are: "L'extension n'a pas
    de %1." is `["l'", "extension", "n'", "a", "pas", "de", "%1", "."]`. Hyphens do not part words.
    """
    return re.findall(
        r"%\d+|(?<!\S)'(?:s|t|re|ve|ll|d|m)\b|\w+'(?=\w)|\w+(?:-\w+)*|[^\w\s]", plain(text)
    )


def detokenize(tokens: Iterable[str]) -> str:
    """Return tokens as a text, with a space between two unless punctuation says otherwise."""
    text = re.sub(r"(?<=\w') (?=\w)", "", " ".join(tokens))
    return re.sub(r" (?=[.,…)\]}])|(?<=[(\[{]) ", "", text)
