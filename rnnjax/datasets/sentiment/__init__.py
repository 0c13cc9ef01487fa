"""Texts and their sentiment: labelled tweets, film reviews."""

from rnnjax.datasets.sentiment.bag_of_words import logistic_regression
from rnnjax.datasets.sentiment.loader import load, prepare, tokenize
from rnnjax.datasets.sentiment.scores import scores
from rnnjax.datasets.sentiment.sources import SOURCES, Source

__all__ = [
    "SOURCES",
    "Source",
    "load",
    "logistic_regression",
    "prepare",
    "scores",
    "tokenize",
]
