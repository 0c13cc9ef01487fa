"""Bach's chorales against music21's own view of them; melodies that never straddle splits."""

import importlib.util
import itertools
import sys
from typing import Any

import numpy as np
import pytest
from music21 import chord, converter, note, stream, tie

from rnnjax.datasets import music
from rnnjax.datasets.music import HOLD, REST, builder

VERSIONS = {  # one melody under several titles, keys and numbers
    "innsbruck": ("bwv13.6", "bwv392", "bwv393", "bwv394", "bwv395"),
    "passion": ("bwv244.54", "bwv270", "bwv271"),
    "freu dich": ("bwv194.6", "bwv39.7"),
    "wer nur": ("bwv166.6", "bwv84.5"),
    "o gott du": ("bwv45.7", "bwv94.8"),
}
SINGLE = "bwv66.6", "bwv57.8", "bwv320", "bwv324", "bwv310", "bwv346", "bwv386"
LEFT_OUT = "bwv432", "bwv79.3"  # thirty-second notes; horns and timpani


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    names = {*itertools.chain(*VERSIONS.values()), *SINGLE, *LEFT_OUT}
    files = [path for path in builder.scores() if path.stem in names]
    directory = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "scores", lambda: files)
        music.prepare(directory)
    return directory


@pytest.fixture(scope="module")
def rows(data_dir):
    splits = {split: music.load(split, data_dir) for split in builder.SPLITS}
    assert all(splits.values())
    return splits


@pytest.fixture(scope="module")
def by_name(rows):
    return {row.name: row for row in itertools.chain(*rows.values())}


def source(name) -> Any:
    (path,) = (path for path in builder.scores() if path.stem == name)
    return converter.parse(path, forceSource=True)


def tune(pitches):
    """Return the soprano's notes, repeated ones once."""
    notes = pitches[:, 0][pitches[:, 0] > REST].astype(int)
    return notes[np.r_[True, np.diff(notes) != 0]]


def longest_common_run(a, b):
    """Return how many successive intervals two melodies have in common, by dynamic programming."""
    best, row = 0, np.zeros(len(b), int)
    for interval in np.diff(a):
        row = np.r_[0, np.where(np.diff(b) == interval, row[:-1] + 1, 0)]
        best = max(best, int(row.max()))
    return best


def assert_no_melody_in_two_splits(rows):
    splits = list(rows.items())
    for (_, some), (_, others) in itertools.combinations(splits, 2):
        assert not {row.melody for row in some} & {row.melody for row in others}
        assert not {row.title for row in some} & {row.title for row in others} - {""}
        for a, b in itertools.product(some, others):
            mine, theirs = tune(a.pitches), tune(b.pitches)
            run = longest_common_run(mine, theirs)
            assert run <= min(len(mine), len(theirs)) / 2, (a.name, b.name)


# --- the data ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_best_known_chorale_by_hand(by_name):
    """BWV 66.6 begins c# b | a b c# e | c#, over an A major chord."""
    row = by_name["bwv66.6"]
    assert (row.tonic, row.mode, row.bar, row.upbeat) == (6, "minor", 16, 4)
    assert row.pitches.shape == (9 * 16, 4)
    soprano = [(0, 73), (2, 71), (4, 69), (8, 71), (12, 73), (16, 76), (20, 73)]
    begins = np.flatnonzero(row.pitches[:, 0] != HOLD)[: len(soprano)]
    assert [(t, row.pitches[t, 0]) for t in begins] == soprano
    assert row.pitches[0].tolist() == [73, 64, 57, 57]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bwv66.6", "bwv94.8", "bwv270"])
def test_what_sounds_and_what_begins_is_what_music21_says(name, by_name):
    row, score = by_name[name], source(name)
    sounding = music.sounding(row.pitches)
    assert len(row.pitches) == 4 * score.highestTime
    for voice, part in enumerate(score.parts):
        flat = part.flatten().notesAndRests.stream()
        for t in range(0, len(sounding), 3):
            event = flat.getElementAtOrBefore(t / 4)
            assert sounding[t, voice] == (REST if event.isRest else event.pitch.midi)
        notes = part.stripTies().flatten().notes
        begins = np.flatnonzero(row.pitches[:, voice] > REST)
        np.testing.assert_array_equal(begins, [4 * n.offset for n in notes])


def test_bars_begin_where_music21_says(by_name):
    for name in ("bwv66.6", "bwv57.8", "bwv346"):
        row = by_name[name]
        measures = source(name).parts[0].getElementsByClass("Measure")
        starts = [4 * m.offset for m in measures if m.duration.quarterLength * 4 == row.bar]
        assert {(start - row.upbeat) % row.bar for start in starts[:2]} == {0}
    assert {by_name[name].bar for name in ("bwv57.8", "bwv346")} == {12, 16}


def test_keys_are_those_of_the_catalogue(by_name):
    """Flats and sharps of the catalogue's keys."""
    known = {"bwv66.6": (6, "minor"), "bwv346": (0, "major"), "bwv386": (9, "major")}
    assert {name: (by_name[name].tonic, by_name[name].mode) for name in known} == known


def test_what_does_not_fit_is_left_out(by_name):
    assert by_name.keys() == {*itertools.chain(*VERSIONS.values()), *SINGLE}


def test_the_dataset_documents_itself(data_dir):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(music.prepare(data_dir))
    assert builder.info.full_name == "bach_chorales/1.0.0"
    assert "music21" in builder.info.description and "Cuthbert" in builder.info.citation


# --- splits -----------------------------------------------------------------------------------


def test_versions_of_a_melody_are_recognised_under_other_titles_and_keys(by_name):
    for names in VERSIONS.values():
        assert len({by_name[name].melody for name in names}) == 1
    assert len({row.melody for row in by_name.values()}) == len(VERSIONS) + len(SINGLE)
    assert by_name["bwv392"].melody == "bwv13.6"  # the first by name
    assert by_name["bwv392"].title != by_name["bwv395"].title != ""


def test_no_melody_is_in_two_splits(rows):
    assert_no_melody_in_two_splits(rows)


@pytest.mark.slow
def test_no_melody_of_all_of_them_is_in_two_splits(tmp_path):
    rows = {split: music.load(split, tmp_path) for split in builder.SPLITS}
    assert {split: len(found) for split, found in rows.items()} == {
        "train": 283,
        "validation": 41,
        "test": 35,
    }
    assert_no_melody_in_two_splits(rows)
    names = [row.name for row in itertools.chain(*rows.values())]
    assert len(set(names)) == len(names)
    for row in itertools.chain(*rows.values()):
        notes = row.pitches[row.pitches > REST]
        assert notes.min() >= 30 and notes.max() <= 84 and (row.pitches[0] != HOLD).all()


def row_of(soprano, name, title=""):
    """Return a row whose soprano sings these notes, a quarter each; the rest is silent."""
    pitches = np.full((4 * len(soprano), 4), HOLD, np.uint8)
    pitches[0] = REST
    pitches[::4, 0] = soprano
    return {"name": name, "title": title, "pitches": pitches}


def test_melodies_are_told_by_their_intervals_titles_and_numbers():
    walks = 60 + np.cumsum(np.random.default_rng(0).choice([-4, -2, -1, 1, 2, 3], (4, 30)), axis=1)
    mended = walks[0].copy()
    mended[10] += 1
    rows = [
        row_of(walks[0], "bwv1"),
        row_of(walks[1], "bwv2"),
        row_of(walks[0] + 5, "bwv3"),  # transposed
        row_of(np.repeat(mended, 2), "bwv4"),  # notes repeated, one another
        row_of(walks[2], "bwv5", title="Nun danket"),
        row_of(walks[3], "bwv6", title="Nun danket"),
        row_of(walks[3][::-1], "bwv2-a"),
        row_of(60 + np.zeros(20, int), "bwv7"),  # one note alone: no melody to compare
        row_of(60 + np.zeros(20, int), "bwv8"),
    ]
    assert builder.melodies(rows) == [
        *("bwv1", "bwv2", "bwv1", "bwv1", "bwv5", "bwv5", "bwv2", "bwv7", "bwv8")
    ]


# --- voices -----------------------------------------------------------------------------------


def test_transposed_voices_keep_rests_and_holds(by_name):
    row = by_name["bwv66.6"]
    higher = music.transpose(row.pitches, 3)
    notes = row.pitches > REST
    np.testing.assert_array_equal(higher[notes], row.pitches[notes] + 3)
    np.testing.assert_array_equal(higher[~notes], row.pitches[~notes])


def test_sounding_writes_holds_out():
    column = np.array([[HOLD, 60, HOLD, REST, HOLD, 62]] * 4).T
    assert music.sounding(column)[:, 0].tolist() == [REST, 60, 60, REST, REST, 62]
    assert music.sounding(column[:0]).shape == (0, 4)


@pytest.mark.parametrize("name", ["bwv66.6", "bwv320"])
def test_a_score_has_the_same_voices(name, by_name):
    pitches = by_name[name].pitches
    np.testing.assert_array_equal(builder.encode(music.score(pitches)), pitches)


def test_a_midi_file_has_the_same_notes(by_name, tmp_path):
    pitches = by_name["bwv66.6"].pitches
    music.score(pitches).write("midi", tmp_path / "voices.mid")
    read: Any = converter.parse(tmp_path / "voices.mid", forceSource=True)
    heard = [(n.offset, n.pitch.midi) for n in read.stripTies().flatten().notes]
    want = [(t / 4, pitches[t, v]) for t, v in np.argwhere(pitches > REST)]
    assert sorted(heard) == sorted(want)


def four_parts(change):
    """Return a score of four voices, the alto's notes changed by `change`."""
    score = stream.Score()
    for name in music.VOICES:
        part = stream.Part(id=name)
        part.append([note.Note(60, quarterLength=1.0), note.Note(62, quarterLength=1.0)])
        if name == "alto":
            change(part)
        score.insert(0, part)
    return score


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.append(chord.Chord([60, 64])),
        lambda part: part.append(note.Note(60, quarterLength=1 / 3)),
        lambda part: part.append(note.Note(60, quarterLength=1 / 8)),
        lambda part: part.append(note.Note(60)),  # longer than the others
        lambda part: part.insert(1.0, note.Note(64)),  # two voices
        lambda part: part.insert(3.0, note.Note(64)),  # a gap
        lambda part: setattr(part, "partName", "Horn"),
    ],
)
def test_what_the_grid_cannot_hold_is_no_chorale(change):
    assert builder.encode(four_parts(change)) is None


def test_rests_ties_and_grace_notes():
    def change(part):
        part.replace(part.notes[1], note.Rest(quarterLength=1.0))
        for kind, length in (("start", 0.25), ("continue", 0.5), ("stop", 0.25)):
            tied = note.Note(65, quarterLength=length)
            tied.tie = tie.Tie(kind)
            part.append(tied)
        part.insert(2.0, note.Note(70).getGrace())

    score = four_parts(change)
    for part in score.parts:
        if part.id != "alto":
            part.append(note.Note(64))
    pitches: Any = builder.encode(score)
    assert pitches[:, 1].tolist() == [60, 0, 0, 0, REST, 0, 0, 0, 65, 0, 0, 0]


# --- what may be missing ----------------------------------------------------------------------


def test_without_music21_the_error_names_the_extra(tmp_path, monkeypatch, by_name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[music\]'") as caught:
        music.prepare(tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[music\]'"):
        music.score(by_name["bwv66.6"].pitches)


def test_prepared_data_need_no_music21(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    assert music.load("train", data_dir)


def test_a_split_that_is_none_is_named(data_dir):
    with pytest.raises(ValueError, match="split must be one of train, validation, test; got 'all'"):
        music.load("all", data_dir)
