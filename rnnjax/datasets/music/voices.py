"""Four voices on a grid of sixteenths: notes, holds and rests as numbers.

`pitches[t, v]` is what voice v does at sixteenth t: a MIDI number (60 is middle C) where a note
begins, `REST` where a rest begins, and `HOLD` where the note or rest continues.

Axis letters: T sixteenths of one chorale, 4 voices.
"""

import numpy as np
from jaxtyping import Int

VOICES = "soprano", "alto", "tenor", "bass"

MODES = "major", "minor"
HOLD, REST = 0, 1

Voices = Int[np.ndarray, "T 4"]


def transpose(pitches: Voices, semitones: int) -> Voices:
    """Return the voices `semitones` higher; rests and holds are unchanged."""
    return np.where(pitches > REST, pitches + semitones, pitches)


def sounding(pitches: Voices) -> Voices:
    """Return the MIDI number that sounds at each sixteenth, or `REST`: holds are written out.

    A voice that begins with a hold rests until its first note.
    """
    begins = pitches != HOLD
    begun = np.maximum.accumulate(np.where(begins, np.arange(len(pitches))[:, None], -1), axis=0)
    return np.where(begun < 0, REST, np.take_along_axis(pitches, np.maximum(begun, 0), axis=0))


def roll(pitches: Voices) -> dict[str, np.ndarray]:
    """Return columns `voice`, `sixteenth` and `median`, the MIDI number that sounds or NaN."""
    sounds = sounding(pitches)
    notes = np.where(sounds == REST, np.nan, sounds)
    voice = np.repeat(VOICES, len(notes))
    sixteenth = np.tile(np.arange(len(notes)), len(VOICES))
    return {"voice": voice, "sixteenth": sixteenth, "median": notes.T.ravel()}
