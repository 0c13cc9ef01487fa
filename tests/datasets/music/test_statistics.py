"""Musical statistics by hand."""

import numpy as np

from rnnjax.datasets.music import HOLD
from rnnjax.datasets.music.statistics import statistics


def test_statistics_by_hand():
    """C major; then D, A and G sharp, which are of no chord, with the soprano below the alto."""
    pitches = np.array([[76, 72, 67, 48], [HOLD] * 4, [68, 74, 69, 50], [68, 73, HOLD, HOLD]])
    found = statistics([pitches])
    assert found["chords"] == found["voice_crossings"] == 0.5
    assert (
        found["parallels_per_100"] == 50
    )  # bass and tenor move in fifths, bass and alto in octaves
    assert found["repeated_notes"] == 1 / 6 and found["sixteenths"] == 4
    silent = np.full((4, 4), HOLD)
    assert statistics([silent])["parallels_per_100"] == 0
    assert statistics([np.zeros((0, 4), int)])["chords"] == 0
