"""Bach's four-part chorales: soprano, alto, tenor and bass on a grid of sixteenths.

Source: J. S. Bach's chorale harmonisations, as encoded by M. Greentree and others and shipped in
the corpus of music21 (Cuthbert, Ariza 2010). Bach harmonised many melodies several times; all
harmonisations of one melody are in the same split.

Axis letters: T sixteenths of one chorale, 4 voices.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnnjax.datasets import preparing
from rnnjax.datasets.music.voices import MODES, Voices

SOURCE = (
    "J. S. Bach's chorales from the corpus of music21, those for four voices alone, without words: "
    "real but of demonstration scale (283 chorales to learn from, 35 with other melodies held out)"
)


class Chorale(NamedTuple):
    """One chorale in its original key.

    `pitches[t, v]` is what voice v does at sixteenth t: a MIDI number (60 is middle C) where a note
    begins, `REST` where a rest begins, and `HOLD` where the note or rest continues. Tied notes are
    one note.
    """

    name: str  # its number in the catalogue of Bach's works: "bwv269"
    title: str  # "" if music21 does not know it
    melody: str  # the name of the first chorale with this melody
    tonic: int  # pitch class, 0 is C
    mode: str  # "major" or "minor"
    bar: int  # sixteenths of a full bar
    upbeat: int  # sixteenths before the first full bar
    pitches: Voices


def prepare(data_dir: str | os.PathLike | None = None) -> Path:
    """Write the chorales as ArrayRecord files, once, and return the directory that holds them.

    This takes about half a minute. See `rnnjax.datasets.preparing.prepare`.

    Raises:
        ModuleNotFoundError: the chorales are not prepared, and music21 is missing.
        DamagedError: the directory exists without its `dataset_info.json`.
    """
    from rnnjax.datasets.music.builder import BachChorales  # imports TFDS

    return preparing.prepare(BachChorales, data_dir)


def load(split: str, data_dir: str | os.PathLike | None = None) -> list[Chorale]:
    """Return the chorales of a split, "train", "validation" or "test", in order of their names.

    Raises:
        ValueError: there is no such split.
        DamagedError: the files are damaged.
        ModuleNotFoundError: as in `prepare`.
    """
    from rnnjax.datasets.music.builder import BachChorales  # imports TFDS

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
