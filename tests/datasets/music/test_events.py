"""Chorales as events and back."""

import numpy as np
import pytest

from rnnjax.datasets import music
from rnnjax.datasets.music import HOLD, REST, builder
from rnnjax.datasets.music.events import TONICS, from_events, home, to_events, to_key

pytestmark = pytest.mark.slow
CHOSEN = "bwv10.7 bwv13.6 bwv39.7 bwv57.8 bwv66.6 bwv84.5 bwv94.8 bwv244.54 bwv270 bwv310 bwv386"


@pytest.fixture(scope="module", autouse=True)
def data_dir(tmp_path_factory):
    """Prepare a few chorales, where all tests of this file find them."""
    files = [path for path in builder.scores() if path.stem in CHOSEN.split()]
    directory = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNJAX_DATA", str(directory))
        patch.setattr(builder, "scores", lambda: files)
        music.prepare()
        yield directory


def test_events_by_hand():
    pitches = np.array([[67, 64, 60, REST], [HOLD] * 4, [65, HOLD, HOLD, 48], [HOLD] * 4])
    first = ["s67", "a64", "t60", "b rest"]
    assert to_events(pitches, bar=4, upbeat=0) == [
        *first,
        *("at 2", "s65", "b48", "at 0"),
    ]
    # With one sixteenth before the first bar, the second sixteenth is where that bar begins.
    assert to_events(pitches, bar=4, upbeat=1) == [
        *first,
        *("at 0", "at 1", "s65", "b48", "at 3"),
    ]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_events_tell_all_of_a_chorale(split):
    for c in music.load(split):
        events = to_events(c.pitches, c.bar, c.upbeat)
        back = from_events(events, c.bar, c.upbeat)
        np.testing.assert_array_equal(back, c.pitches)


def test_any_events_are_some_music():
    """A network may write what no chorale has: voices out of order, twice, or nothing at all."""
    read = from_events
    assert read(["at 1", "b50", "s70", "s71", "<unknown>", "at 3"], 4, 0).tolist() == [
        [HOLD] * 4,
        [71, HOLD, HOLD, 50],
        [HOLD] * 4,
    ]
    assert len(read(["s60", "at 0"], 4, 0)) == 4  # a whole bar
    assert read([], 4, 0).shape == read(["s60"], 4, 0).shape == (0, 4)


def test_at_home_all_are_in_c_major_or_a_minor():
    for c in music.load("train"):
        moved, notes = home(c), c.pitches > REST
        shift = {*(moved - c.pitches)[notes].tolist()}
        (only,) = shift
        assert -6 < only <= 6 and (c.tonic + only) % 12 == {"major": 0, "minor": 9}[c.mode]


@pytest.mark.parametrize("semitones", range(-12, 13))
def test_another_key_is_reached_by_the_shorter_way(semitones):
    pitches = np.array([[67, 64, REST, 48], [HOLD] * 4])
    moved = to_key(pitches, semitones)
    (shift,) = {*(moved - pitches)[pitches > REST].tolist()}
    assert -6 < shift <= 6 and (shift - semitones) % 12 == 0
    assert (moved[pitches <= REST] == pitches[pitches <= REST]).all()
    assert TONICS == {"major": 0, "minor": 9}
