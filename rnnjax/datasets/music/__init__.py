"""Bach's four-part chorales: loaded, as voices on a grid of sixteenths, as music21 scores."""

from rnnjax.datasets.music.loader import Chorale, load, prepare
from rnnjax.datasets.music.scores import score
from rnnjax.datasets.music.voices import HOLD, MODES, REST, VOICES, Voices, sounding, transpose

__all__ = [
    "HOLD",
    "MODES",
    "REST",
    "VOICES",
    "Chorale",
    "Voices",
    "load",
    "prepare",
    "score",
    "sounding",
    "transpose",
]
