"""Spoken digits: recordings, their words, and log-mel frames (`speech.audio`)."""

from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.loader import Recording, load, prepare
from rnnjax.datasets.speech.sources import SOURCES, SPLITS, WORDS, digits_of

__all__ = [
    "SOURCES",
    "SPLITS",
    "WORDS",
    "Recording",
    "audio",
    "digits_of",
    "load",
    "prepare",
]
