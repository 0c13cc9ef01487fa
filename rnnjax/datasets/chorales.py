"""Bach's four-part chorales: soprano, alto, tenor and bass on a grid of sixteenths.

Source: J. S. Bach's chorale harmonisations, as encoded by M. Greentree and others and shipped in
the corpus of music21 (Cuthbert, Ariza 2010). Whoever harmonises the same melody as a training
chorale stands in the training split too: Bach set many melodies several times.

Axis letters: T sixteenths of one chorale, 4 voices.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from rnnjax.datasets import preparing

VOICES = "soprano", "alto", "tenor", "bass"
HOLD, REST = 0, 1
Voices = Int[np.ndarray, "T 4"]


class Chorale(NamedTuple):
    """One chorale as it was written, in its own key.

    `pitches[t, v]` is what voice v does at sixteenth t: a MIDI number (60 is middle C) where a note
    begins, `REST` where a rest begins, `HOLD` where the note or rest before goes on. A tied note
    is one note.
    """

    name: str  # its number in the catalogue of Bach's works: "bwv269"
    title: str  # "" where music21 knows none
    melody: str  # the name of the first chorale of those with this melody
    tonic: int  # pitch class, 0 is C
    mode: str  # "major" or "minor"
    bar: int  # sixteenths of a full bar
    upbeat: int  # sixteenths before the first full bar
    pitches: Voices


def prepare(data_dir: str | os.PathLike | None = None) -> Path:
    """Write the chorales as ArrayRecord files, once, and return the directory that holds them.

    That takes about half a minute. See `rnnjax.datasets.preparing.prepare`.

    Raises:
        ModuleNotFoundError: there is something to prepare, and music21 is missing.
        DamagedError: the directory exists without its `dataset_info.json`.
    """
    from rnnjax.datasets.chorales_builder import BachChorales

    return preparing.prepare(BachChorales, data_dir)


def load(split: str, data_dir: str | os.PathLike | None = None) -> list[Chorale]:
    """Return the chorales of a split, "train", "validation" or "test", in order of their names.

    Raises:
        ValueError: there is no such split.
        DamagedError: the files are damaged.
        ModuleNotFoundError: as in `prepare`.
    """
    from rnnjax.datasets.chorales_builder import MODES, BachChorales

    return [
        Chorale(
            *(row[name].decode() for name in ("name", "title", "melody")),
            tonic=int(row["tonic"]),
            mode=MODES[row["mode"]],
            bar=int(row["bar"]),
            upbeat=int(row["upbeat"]),
            pitches=row["pitches"].astype(np.int32),
        )
        for row in preparing.read(BachChorales, split, data_dir)
    ]


def transpose(pitches: Voices, semitones: int) -> Voices:
    """Return the voices so many semitones higher; rests and holds stay what they are."""
    return np.where(pitches > REST, pitches + semitones, pitches)


def sounding(pitches: Voices) -> Voices:
    """Return the MIDI number that sounds at each sixteenth, or `REST`: holds written out.

    A voice that begins with a hold rests until its first note.
    """
    begins = pitches != HOLD
    begun = np.maximum.accumulate(np.where(begins, np.arange(len(pitches))[:, None], -1), axis=0)
    return np.where(begun < 0, REST, np.take_along_axis(pitches, np.maximum(begun, 0), axis=0))


def score(pitches: Voices) -> Any:
    """Return the voices as a `music21.stream.Score`, which writes MIDI and MusicXML.

    Raises:
        ModuleNotFoundError: music21 is missing.
    """
    try:
        from music21 import note, stream
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"music is written with music21, which cannot be imported ({error.name} is missing): "
            "pip install 'rnnjax[music]'",
            name=error.name,
        ) from None
    written = stream.Score()
    for voice, column in zip(VOICES, pitches.T, strict=True):
        part = stream.Part(id=voice)
        starts = np.union1d([0], np.flatnonzero(column != HOLD))
        for start, end in zip(starts, [*starts[1:], len(column)], strict=True):
            length = (end - start) / 4
            rests = column[start] in (HOLD, REST)
            event = note.Rest() if rests else note.Note(int(column[start]))
            event.quarterLength = float(length)
            part.insert(float(start / 4), event)
        written.insert(0, part)
    return written
