"""Texts for language models, by document, windows of characters, and n-gram baselines."""

from rnnjax.datasets.language.loader import load, prepare
from rnnjax.datasets.language.n_grams import bits_per_character
from rnnjax.datasets.language.sources import SOURCES, Source
from rnnjax.datasets.language.windows import spread_windows, stream, whole_documents, windows

__all__ = [
    "SOURCES",
    "Source",
    "bits_per_character",
    "load",
    "prepare",
    "spread_windows",
    "stream",
    "whole_documents",
    "windows",
]
