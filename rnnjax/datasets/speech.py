"""Spoken digits as samples: strings for recognition, single digits for synthesis.

Sources: synthetic speech by espeak-ng, demonstration scale; and the digits of Speech Commands 0.02
(Warden 2018, arXiv:1804.03209), real recordings, a download of 2.4 GB. `rnnjax.datasets.audio`
turns samples into frames.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnjax.datasets import preparing

SPLITS = ("train", "validation", "test")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SOURCES = {
    "espeak": "synthetic speech by espeak-ng: digit strings, 44 speakers (demonstration scale)",
    "espeak_digits": "synthetic speech by espeak-ng: single digits, 44 speakers (demonstration "
    "scale)",
    "speech_commands": "the ten digits of Speech Commands 0.02 (Warden 2018), real recordings",
}
"""What can be loaded, in words for a report."""


class Recording(NamedTuple):
    """What was said, and by whom; 8 kHz."""

    samples: np.ndarray  # [N] int16
    digits: str  # "407"
    speaker: str
    accent: str = ""  # "" and 0: not known
    speed: int = 0  # words a minute
    pitch: int = 0  # 0..99


def prepare(source: str, data_dir: str | os.PathLike | None = None) -> Path:
    """Write a source's recordings as ArrayRecord files, once, and return their directory.

    Raises:
        ValueError: there is no such source.
        Exception: what `rnnjax.datasets.preparing.prepare` raises.
    """
    return preparing.prepare(_builder(source), data_dir)


def load(source: str, split: str, data_dir: str | os.PathLike | None = None) -> list[Recording]:
    """Return the recordings of a split; prepare them if need be.

    Args:
        source: "espeak" (digit strings; the splits keep speakers apart), "espeak_digits" (single
            digits; they keep pairs of digit and speaker apart) or "speech_commands" (single digits;
            they keep speakers apart).
        split: "train", "validation" or "test".

    Raises:
        ValueError: there is no such source or split.
        Exception: what `rnnjax.datasets.preparing.read` raises.
    """
    rows = preparing.read(_builder(source), split, data_dir)
    text = ("digits", "speaker", "accent")
    return [
        Recording(
            samples=row["audio"],
            **{name: bytes(row[name]).decode() for name in text},
            speed=int(row["speed"]),
            pitch=int(row["pitch"]),
        )
        for row in rows
    ]


def digits_of(text: str) -> str:
    """Return the digits in a text of digits or digit words: "four 0 seven" is "407".

    Raises:
        ValueError: a word is no digit, or there is none; the message names it.
    """
    found = []
    for word in text.lower().replace(",", " ").split():
        digits = str(WORDS.index(word)) if word in WORDS else word
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"{word!r} is no digit; known are 0 to 9 and {', '.join(WORDS)}")
        found.append(digits)
    if not found:
        raise ValueError("there is no digit in the text")
    return "".join(found)


def _builder(source: str) -> Any:
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    from rnnjax.datasets import speech_builder

    return {
        "espeak": speech_builder.EspeakDigitStrings,
        "espeak_digits": speech_builder.EspeakDigits,
        "speech_commands": speech_builder.SpeechCommandDigits,
    }[source]
