"""Chorales as a network's examples, and as a piano roll, by hand."""

import numpy as np

from rnnjax.datasets import music
from rnnjax.datasets.music import HOLD, REST, Chorale, examples
from rnnjax.datasets.vocabulary import Vocabulary

PITCHES = np.array([[67, 64, 60, REST], [HOLD] * 4, [65, HOLD, HOLD, 48], [HOLD] * 4], np.int32)
CHORALE = Chorale("bwv1", "", "bwv1", 0, "major", bar=4, upbeat=1, pitches=PITCHES)
EVENTS = ["s67", "a64", "t60", "b rest", "at 0", "at 1", "s65", "b48", "at 3"]


def test_a_context_says_mode_bar_and_upbeat():
    assert examples.context("minor", 12, 3).tolist() == [0, 1, 0.75, 0.25]


def test_targets_are_the_events_at_home_and_an_end():
    assert examples.events([CHORALE]) == [EVENTS]
    vocabulary = Vocabulary.fit([EVENTS])
    found = examples.columns([CHORALE, CHORALE], vocabulary)
    assert found["context"].tolist() == [[1, 0, 0.25, 0.25]] * 2
    assert found["targets"].dtype == np.int32 and found["lengths"].tolist() == [10, 10]
    assert found["targets"][0].tolist() == [*vocabulary.encode(EVENTS), 1]
    up = CHORALE._replace(tonic=2, pitches=music.transpose(PITCHES, 2))
    assert examples.events([up]) == [EVENTS]  # D major, in C major
    short = examples.columns([CHORALE], vocabulary, 3)
    assert short["targets"].tolist() == [vocabulary.encode(EVENTS[:3]).tolist()]
    assert short["lengths"].tolist() == [3]


def test_a_roll_has_the_sounding_notes_of_each_voice():
    found = music.roll(PITCHES)
    assert found["voice"].tolist() == [v for v in music.VOICES for _ in range(4)]
    assert found["sixteenth"].tolist() == [0, 1, 2, 3] * 4
    expected = [67, 67, 65, 65, *[64] * 4, *[60] * 4, np.nan, np.nan, 48, 48]
    np.testing.assert_array_equal(found["median"], expected)


def test_a_midi_file_has_the_name_that_is_returned(tmp_path):
    music.check_music21()
    assert music.write_midi(tmp_path / "a.mid", PITCHES) == "a.mid"
    assert (tmp_path / "a.mid").read_bytes().startswith(b"MThd")
