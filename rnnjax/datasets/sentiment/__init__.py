"""Texts and their sentiment: labelled tweets, film reviews."""

from rnnjax.datasets.sentiment.loader import load, prepare, tokenize
from rnnjax.datasets.sentiment.sources import SOURCES, Source

__all__ = [
    "SOURCES",
    "Source",
    "load",
    "prepare",
    "tokenize",
]
