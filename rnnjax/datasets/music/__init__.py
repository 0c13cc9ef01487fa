"""Bach's four-part chorales: loaded, as voices on a grid of sixteenths, as music21 scores."""

from rnnjax.datasets.music.keys import file_name, parse_key
from rnnjax.datasets.music.loader import SOURCE, Chorale, load, prepare
from rnnjax.datasets.music.scores import check_music21, score, write_midi
from rnnjax.datasets.music.voices import (
    HOLD,
    MODES,
    REST,
    VOICES,
    Voices,
    roll,
    sounding,
    transpose,
)

__all__ = [
    "HOLD",
    "MODES",
    "REST",
    "SOURCE",
    "VOICES",
    "Chorale",
    "Voices",
    "check_music21",
    "file_name",
    "load",
    "parse_key",
    "prepare",
    "roll",
    "score",
    "sounding",
    "transpose",
    "write_midi",
]
