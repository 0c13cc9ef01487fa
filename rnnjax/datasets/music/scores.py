"""Voices as music21 scores, which can be saved as MIDI and MusicXML."""

from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.datasets.music.voices import HOLD, REST, VOICES, Voices


def check_music21() -> None:
    """Refuse at once what would fail later.

    Raises:
        ModuleNotFoundError: music21 is missing; the message names the extra.
    """
    from rnnjax.datasets.builders import package_file  # imports TFDS

    package_file("music21", "__init__.py", extra="music")


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


def write_midi(path: Path, pitches: Voices) -> str:
    """Write the voices as a MIDI file, and return its name.

    Raises:
        ModuleNotFoundError: music21 is missing.
    """
    score(pitches).write("midi", path)
    return path.name
