"""Texts for language models, by document, and windows of characters."""

from rnnjax.datasets.language.loader import load, prepare
from rnnjax.datasets.language.sources import SOURCES, Source
from rnnjax.datasets.language.windows import stream, windows

__all__ = [
    "SOURCES",
    "Source",
    "load",
    "prepare",
    "stream",
    "windows",
]
