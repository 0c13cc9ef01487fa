"""Sentence pairs in two languages, and their tokens."""

from rnnjax.datasets.translation.loader import load, prepare
from rnnjax.datasets.translation.sources import SOURCES, Source
from rnnjax.datasets.translation.tokens import detokenize, plain, tokenize

__all__ = [
    "SOURCES",
    "Source",
    "detokenize",
    "load",
    "plain",
    "prepare",
    "tokenize",
]
