"""Chorales as sequences of events, and back.

"s67" is a note of the soprano, MIDI number 67, that begins now; "t rest" is a rest of the tenor;
"at 4" moves on to the next such position, counted in sixteenths from the bar line.

Axis letters: T sixteenths of one chorale, 4 voices.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnjax.datasets.music.voices import HOLD, REST, VOICES, Voices, transpose

TONICS = {"major": 0, "minor": 9}  # pitch classes of C major and A minor


def home(chorale: Any) -> Voices:
    """Return the voices of a `Chorale` in C major or A minor, whichever octave is nearer."""
    return to_key(chorale.pitches, TONICS[chorale.mode] - chorale.tonic)


def to_key(pitches: Voices, semitones: int) -> Voices:
    """Return the voices transposed to another key by the shorter way, at most 6 semitones."""
    shift = semitones % 12
    return transpose(pitches, shift - 12 if shift > 6 else shift)


def to_events(pitches: Voices, bar: int, upbeat: int) -> list[str]:
    """Return the events of a chorale; the last one moves to its end.

    Args:
        bar: sixteenths of a full bar.
        upbeat: sixteenths before the first full bar.
    """
    written, waiting = [], False
    for t, row in enumerate(pitches):
        place = (t - upbeat) % bar
        begin = np.flatnonzero(row != HOLD)
        if waiting and (len(begin) or place == 0):  # no position is further away than a bar
            written.append(f"at {place}")
        names = [f"{VOICES[v][0]}{'' if row[v] > REST else ' '}" for v in begin]
        pitch = [str(row[v]) if row[v] > REST else "rest" for v in begin]
        written += [name + value for name, value in zip(names, pitch, strict=True)]
        waiting = True
    return [*written, f"at {(len(pitches) - upbeat) % bar}"]


def from_events(events: Iterable[str], bar: int, upbeat: int) -> Voices:
    """Return the voices of a sequence of events.

    Any sequence has some: events of no voice are ignored, and of two notes of one voice at one
    position the later one counts.
    """
    rows = [[HOLD] * 4]
    for event in events:
        name, _, value = event.partition(" ")
        if name == "at":
            wait = (int(value) - (len(rows) - 1 - upbeat) - 1) % bar + 1
            rows += [[HOLD] * 4 for _ in range(wait)]
        elif (voice := "satb".find(name[0])) >= 0:
            rows[-1][voice] = REST if value == "rest" else int(name[1:])
    return np.array(rows[:-1], np.int32).reshape(-1, 4)  # the last position is the end
