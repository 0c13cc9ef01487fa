"""Musical statistics of chorales: chords, voice crossings, parallel fifths and octaves."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from rnnjax.datasets.music.voices import REST, sounding

TRIADS = (0, 4, 7), (0, 3, 7), (0, 3, 6)
SEVENTHS = (0, 4, 7, 10), (0, 3, 7, 10), (0, 4, 7, 11), (0, 3, 6, 10), (0, 3, 6, 9)
CHORDS = [{(root + i) % 12 for i in c} for c in (*TRIADS, *SEVENTHS) for root in range(12)]
PARALLEL = 0, 7  # semitones of octaves and fifths, modulo an octave


def statistics(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> dict[str, float]:
    """Return statistics over all sixteenths of some chorales.

    chords               part of the sixteenths whose notes belong to one triad or seventh chord
    voice_crossings      part of the sixteenths where a voice is below the next lower one
    parallels_per_100    parallel fifths and octaves per 100 sixteenths
    repeated_notes       part of the notes that repeat the previous note of their voice
    sixteenths           mean length
    """
    chords = crossings = parallels = sixteenths = 0
    repeated = []
    for pitches in pieces:
        sounds = sounding(pitches)
        for notes in sounds.tolist():
            classes = {note % 12 for note in notes if note != REST}
            chords += any(classes <= chord for chord in CHORDS)
        below = np.where(sounds == REST, -np.inf, sounds)[:, 1:]
        above = np.where(sounds == REST, np.inf, sounds)[:, :-1]
        crossings += (above < below).any(1).sum()
        sixteenths += len(sounds)
        parallels += _parallels(sounds)
        for voice in pitches.T:
            notes = voice[voice > REST]
            repeated += (np.diff(notes) == 0).tolist()
    return {
        "chords": float(chords / max(sixteenths, 1)),
        "voice_crossings": float(crossings / max(sixteenths, 1)),
        "parallels_per_100": float(100 * parallels / max(sixteenths, 1)),
        "repeated_notes": float(np.mean(repeated)) if repeated else 0.0,
        "sixteenths": float(sixteenths / max(len(pieces), 1)),
    }


def _parallels(sounds):
    """Return how often two voices move from one fifth or octave to another."""
    moves, found = np.diff(sounds, axis=0) != 0, 0
    for low in range(4):
        for high in range(low):
            there = (sounds[:, [low, high]] != REST).all(1)
            interval = (sounds[:, high] - sounds[:, low]) % 12
            same = (interval[1:] == interval[:-1]) & np.isin(interval[1:], PARALLEL)
            found += (same & moves[:, low] & moves[:, high] & there[1:] & there[:-1]).sum()
    return found
