"""Spoken digits: recordings, their words, and log-mel frames (`speech.audio`)."""

from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.loader import Recording, load, of_each_speaker, prepare
from rnnjax.datasets.speech.sources import SOURCES, SPLITS, WORDS, digits_of, parse_request

__all__ = [
    "SOURCES",
    "SPLITS",
    "WORDS",
    "Recording",
    "audio",
    "digits_of",
    "load",
    "of_each_speaker",
    "parse_request",
    "prepare",
]
