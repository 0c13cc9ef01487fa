"""Sentence pairs in two languages, their tokens, what a network wrote, and its scores."""

from rnnjax.datasets.translation.loader import load, prepare
from rnnjax.datasets.translation.memory import most_similar
from rnnjax.datasets.translation.pairs import Pairs, columns, short_pairs
from rnnjax.datasets.translation.scores import bleu_and_chrf
from rnnjax.datasets.translation.sources import SOURCES, Source
from rnnjax.datasets.translation.tokens import detokenize, plain, tokenize
from rnnjax.datasets.translation.written import attention_table, words_of

__all__ = [
    "SOURCES",
    "Pairs",
    "Source",
    "attention_table",
    "bleu_and_chrf",
    "columns",
    "detokenize",
    "load",
    "most_similar",
    "plain",
    "prepare",
    "short_pairs",
    "tokenize",
    "words_of",
]
