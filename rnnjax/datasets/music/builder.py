"""The TFDS builder of Bach's chorales from music21's corpus; runs without TensorFlow."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.batches import fold
from rnnjax.datasets.builders import Builder, package_file
from rnnjax.datasets.music.voices import HOLD, MODES, REST, VOICES

SPLITS = {"train": range(2, 10), "validation": (1,), "test": (0,)}


class BachChorales(Builder, skip_registration=True):
    """Builds examples with the fields of `rnnjax.datasets.music.Chorale`.

    Raises ModuleNotFoundError when music21 is missing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The four-part chorales of music21's corpus."}
    DESCRIPTION = """\
Four-part chorales by J. S. Bach on a grid of sixteenths: all MusicXML files of the folder `bach` in
music21's corpus with exactly a soprano, an alto, a tenor and a bass, one metre, one voice per part
and no note shorter than a sixteenth. A row has the pitches as written (a MIDI number where a note
begins, 1 where a rest begins, 0 where either continues), the key (estimated from all notes by
music21's key profiles, because signatures of that time leave the mode open), and the sixteenths of
a bar and of the upbeat. Splits are by melody: chorales that share more than a third of their
soprano's runs of seven intervals, or have the same title or number, have the same melody and are in
one split. About a tenth of the melodies are validation, a tenth test. Fermatas, words and repeats
are left out: a repeated section appears once."""
    CITATION = """\
@inproceedings{cuthbert2010music21,
  title = {music21: A Toolkit for Computer-Aided Musicology and Symbolic Music Data},
  author = {Cuthbert, Michael Scott and Ariza, Christopher},
  booktitle = {ISMIR},
  year = {2010},
}"""
    HOMEPAGE = "https://www.music21.org/music21docs/about/referenceCorpus.html"

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        number = tfds.features.Scalar(dtype=np.int32)
        text = tfds.features.Text()
        return {
            "name": text,
            "title": text,
            "melody": text,
            "tonic": number,
            "mode": tfds.features.ClassLabel(names=list(MODES)),
            "bar": number,
            "upbeat": number,
            "pitches": tfds.features.Tensor(shape=(None, 4), dtype=np.uint8),
        }

    def _split_generators(self, dl_manager):
        rows = [row for path in scores() if (row := read(path))]
        for row, melody in zip(rows, melodies(rows), strict=True):
            row["melody"] = melody
        return {
            split: self._generate_examples([r for r in rows if fold(r["melody"], 10) in folds])
            for split, folds in SPLITS.items()
        }


def scores() -> list[Path]:
    """Return the MusicXML files of the folder `bach` in music21's corpus, by name."""
    return sorted(package_file("music21", "corpus", "bach", extra="music").glob("*.mxl"))


def read(path: Path) -> dict[str, Any] | None:
    """Return the row of a MusicXML file, without its melody; None if it does not fit the grid."""
    try:
        from music21 import converter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the chorales are read by music21, which cannot be imported ({error.name} is "
            "missing): pip install 'rnnjax[music]'",
            name=error.name,
        ) from None
    score: Any = converter.parse(path, forceSource=True)
    metres = score.parts[0].recurse().getElementsByClass("TimeSignature")
    pitches = encode(score)
    if pitches is None or len({metre.ratioString for metre in metres}) != 1:
        return None
    key = score.analyze("key")
    bar = round(4 * metres[0].barDuration.quarterLength)
    first = score.parts[0].getElementsByClass("Measure")[0]
    length = round(4 * first.duration.quarterLength)
    return {
        "name": path.stem,
        "title": _titles().get(path.stem, ""),
        "tonic": key.tonic.pitchClass,
        "mode": key.mode,
        "bar": bar,
        "upbeat": length % bar,
        "pitches": pitches,
    }


def encode(score: Any) -> np.ndarray | None:
    """Return the four voices of a music21 score as uint8 `[T, 4]`, as `Chorale` describes them.

    None if it has other parts, or anything that the grid cannot hold: chords, several voices in a
    part, gaps, times that are not multiples of a sixteenth.
    """
    if [(part.partName or part.id).lower() for part in score.parts] != list(VOICES):
        return None
    columns = [_encode_part(part) for part in score.parts]
    if any(c is None or len(c) != len(columns[0]) for c in columns):  # pyright: ignore
        return None
    return np.stack(columns, axis=1)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _encode_part(part):
    column = []
    for event in part.flatten().notesAndRests:
        start, length = 4 * event.offset, 4 * event.quarterLength
        if event.duration.isGrace:
            continue
        if event.isChord or start != len(column) or length != int(length):
            return None
        tied = event.tie is not None and event.tie.type != "start"
        begins = HOLD if tied else REST if event.isRest else event.pitch.midi
        column += [begins] + [HOLD] * (int(length) - 1)
    return np.array(column, np.uint8)


@functools.cache
def _titles():
    """Return the titles that music21 knows, by name."""
    from music21.corpus.chorales import ChoraleListRKBWV

    known = ChoraleListRKBWV().byRiemenschneider.values()
    return {f"bwv{entry['bwv']}": entry["title"] for entry in known}


def melodies(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return, for each row, the name of the first row with the same melody."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    runs = [_interval_runs(row["pitches"][:, 0]) for row in rows]
    same = np.eye(len(rows), dtype=bool)
    for i, j in itertools.combinations(range(len(rows)), 2):
        shared = len(runs[i] & runs[j]) > min(len(runs[i]), len(runs[j])) / 3
        title = rows[i]["title"] == rows[j]["title"] != ""
        same[i, j] = shared or title or _number(rows[i]) == _number(rows[j])
    _, labels = connected_components(csr_array(same), directed=False)
    return [rows[np.flatnonzero(labels == label)[0]]["name"] for label in labels]


def _interval_runs(soprano, length=7):
    """Return all runs of `length` successive intervals; repeated notes count as one."""
    notes = soprano[soprano > REST].astype(int)
    intervals = np.diff(notes)
    intervals = intervals[intervals != 0].tolist()
    return {tuple(intervals[i : i + length]) for i in range(len(intervals) - length + 1)}


def _number(row):
    """Return the name without the suffix of a version: bwv69.6-a is bwv69.6."""
    return row["name"].split("-")[0]
