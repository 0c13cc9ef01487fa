"""Spoken digits as samples: strings for recognition, single digits for synthesis.

Sources: synthetic speech by espeak-ng, demonstration scale; and the digits of Speech Commands 0.02
(Warden 2018, arXiv:1804.03209), real recordings, a download of 2.4 GB.
`rnnjax.datasets.speech.audio` converts samples to frames.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnjax.datasets import preparing
from rnnjax.datasets.speech.sources import SOURCES


class Recording(NamedTuple):
    """A recording at 8 kHz: its digits and its speaker."""

    samples: np.ndarray  # [N] int16
    digits: str  # "407"
    speaker: str
    accent: str = ""  # "" and 0 mean unknown
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
    """Return the recordings of a split; prepare them if needed.

    Args:
        source: "espeak" (digit strings; the splits keep speakers apart), "espeak_digits" (single
            digits; the splits keep pairs of digit and speaker apart) or "speech_commands" (single
            digits; the splits keep speakers apart).
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


def of_each_speaker(recordings: Sequence[Recording], count: int) -> list[Recording]:
    """Return a recording of each of the first `count` speakers: the second of the first one, ..."""
    found = []
    for place, speaker in enumerate(list(dict.fromkeys(r.speaker for r in recordings))[:count]):
        own = [recording for recording in recordings if recording.speaker == speaker]
        found.append(own[min(place + 1, len(own) - 1)])
    return found


def _builder(source) -> Any:
    preparing.check_source(source, SOURCES)
    from rnnjax.datasets.speech.builder import BUILDERS  # imports TFDS

    return BUILDERS[source]
