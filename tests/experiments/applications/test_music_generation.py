"""Music generation: events and back, bits by hand, what a run writes and what it answers."""

import dataclasses
import importlib.util
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from music21 import converter
from scripts import ROOT, load

from rnnjax import experiment
from rnnjax.datasets import music
from rnnjax.datasets.music import HOLD, REST, Chorale, builder
from rnnjax.datasets.vocabulary import Vocabulary

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "music_generation.py")
TINY = application.Config(
    features=24,
    embedding=12,
    window=96,
    steps=60,
    batch_size=4,
    record_every=20,
    seeds=2,
    samples=1,
    length=120,
)
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


def ask(out, key):
    return application.run(dataclasses.replace(TINY, out=out, predict=key))


def chorale(pitches, **changes):
    """Return a chorale in C major, four sixteenths a bar, without upbeat."""
    known = {"name": "x", "title": "", "melody": "x", "tonic": 0, "mode": "major"}
    return Chorale(**known | {"bar": 4, "upbeat": 0, "pitches": np.array(pitches)} | changes)


# --- events -----------------------------------------------------------------------------------


def test_events_by_hand():
    pitches = np.array([[67, 64, 60, REST], [HOLD] * 4, [65, HOLD, HOLD, 48], [HOLD] * 4])
    first = ["s67", "a64", "t60", "b rest"]
    assert application.to_events(pitches, bar=4, upbeat=0) == [
        *first,
        *("at 2", "s65", "b48", "at 0"),
    ]
    # With one sixteenth before the first bar, the second sixteenth is where that bar begins.
    assert application.to_events(pitches, bar=4, upbeat=1) == [
        *first,
        *("at 0", "at 1", "s65", "b48", "at 3"),
    ]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_events_tell_all_of_a_chorale(split):
    for c in music.load(split):
        events = application.to_events(c.pitches, c.bar, c.upbeat)
        back = application.from_events(events, c.bar, c.upbeat)
        np.testing.assert_array_equal(back, c.pitches)


def test_any_events_are_some_music():
    """A network may write what no chorale has: voices out of order, twice, or nothing at all."""
    read = application.from_events
    assert read(["at 1", "b50", "s70", "s71", "<unknown>", "at 3"], 4, 0).tolist() == [
        [HOLD] * 4,
        [71, HOLD, HOLD, 50],
        [HOLD] * 4,
    ]
    assert len(read(["s60", "at 0"], 4, 0)) == 4  # a whole bar
    assert read([], 4, 0).shape == read(["s60"], 4, 0).shape == (0, 4)


def test_at_home_all_are_in_c_major_or_a_minor():
    for c in music.load("train"):
        moved, notes = application.home(c), c.pitches > REST
        shift = {*(moved - c.pitches)[notes].tolist()}
        (only,) = shift
        assert -6 < only <= 6 and (c.tonic + only) % 12 == {"major": 0, "minor": 9}[c.mode]


# --- bits -------------------------------------------------------------------------------------


def test_baselines_by_hand():
    """One voice sings C C D, C begins each time; the others rest. Then it is asked about C D."""
    rests = [[HOLD] * 3] * 2
    train = chorale([[60, *[REST] * 3], [60, *rests[0]], [62, *rests[0]]])
    held_out = chorale([[60, *[REST] * 3], [62, *rests[0]]])
    found = application.baselines([train], [held_out])
    c, d = (2 + 2 / 3) / 5, (1 + 2 / 3) / 5  # two notes and what is unknown
    rest, hold = (1 + 2 / 3) / 5, (2 + 2 / 3) / 5
    others = 3 * (math.log2(rest) + math.log2(hold))
    np.testing.assert_allclose(found["unigram"], -(math.log2(c) + math.log2(d) + others) / 2)
    first, then = (1 + c) / 2, (1 + 2 * d) / 4  # the first is always C; after C came C and D
    others = 3 * (math.log2((1 + rest) / 2) + math.log2((1 + hold) / 2))
    bigram = -(math.log2(first) + math.log2(then) + others) / 2
    np.testing.assert_allclose(found["bigram"], bigram)


def test_bits_are_those_of_the_steps_that_write(finished):
    """Teacher forcing against the model read event by event, with a log-softmax of its own."""
    out, summary = finished
    vocabulary = Vocabulary(tuple(json.loads((out / "preprocessing.json").read_text())["tokens"]))
    model = TINY.make_model(len(vocabulary))
    params = experiment.restore(
        application.applications.Run(out),
        lambda key: application.initialise(model, key),
        members=2,
    )
    test = music.load("test")
    batch = jax.tree.map(jnp.asarray, application.columns(test, vocabulary))
    losses = application.event_losses(model, params, batch)
    step = jax.jit(lambda s, x: model.apply({"params": params}, s, x, method="step"))
    row = int(np.argmin(batch["lengths"]))
    context = batch["context"][row : row + 1]
    state, said = model.apply({"params": params}, context, method="start"), np.array([1])
    for t in range(40):
        state, logits = step(state, said)
        logits = np.asarray(logits[0], np.float64)
        said = batch["targets"][row : row + 1, t]
        want = np.log(np.exp(logits).sum()) - logits[said[0]]
        np.testing.assert_allclose(losses[row, t], want, rtol=1e-4, atol=1e-5)
    bits = losses.sum() / math.log(2) / sum(len(c.pitches) for c in test)
    np.testing.assert_allclose(summary["values"][0], bits, rtol=1e-5)
    assert (np.asarray(losses)[~application.valid(batch)] == 0).all()


def test_nothing_ahead_of_an_event_counts_for_it():
    model, vocabulary = TINY.make_model(9), 9
    targets = jnp.array([[2, 3, 4, 5, 6, 1]])
    batch = {"context": jnp.ones((1, 4)), "targets": targets, "lengths": jnp.array([6])}
    params = application.initialise(model, jax.random.key(0))
    before = application.event_losses(model, params, batch)
    changed = batch | {"targets": jnp.where(jnp.arange(6) >= 3, vocabulary - 1, targets)}
    after = application.event_losses(model, params, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3:], after[:, 3:])


# --- music ------------------------------------------------------------------------------------


def test_statistics_by_hand():
    """C major; then D, A and G sharp, which are of no chord, with the soprano below the alto."""
    pitches = np.array([[76, 72, 67, 48], [HOLD] * 4, [68, 74, 69, 50], [68, 73, HOLD, HOLD]])
    found = application.statistics([pitches])
    assert found["chords"] == found["voice_crossings"] == 0.5
    assert (
        found["parallels_per_100"] == 50
    )  # bass and tenor move in fifths, bass and alto in octaves
    assert found["repeated_notes"] == 1 / 6 and found["sixteenths"] == 4
    silent = np.full((4, 4), HOLD)
    assert application.statistics([silent])["parallels_per_100"] == 0
    assert application.statistics([np.zeros((0, 4), int)])["chords"] == 0


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("G major", (7, "major")),
        ("a minor", (9, "minor")),
        ("F# minor", (6, "minor")),
        (" Bb major ", (10, "major")),
        ("b minor", (11, "minor")),
        ("c♭ major", (11, "major")),
    ],
)
def test_keys(text, key):
    assert application.parse_key(text) == key


# --- a run ------------------------------------------------------------------------------------


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["metric"] == "bits per sixteenth" and not summary["higher_is_better"]
    expected = application.baselines(music.load("train"), music.load("test"))
    assert summary["baselines"] == expected and summary["baseline"] == min(expected.values())
    assert summary["value"] < expected["unigram"] + 2  # eleven chorales, sixty updates
    assert "music21" in summary["source"] and "demonstration scale" in summary["source"]
    for name in ("gradients", "training", "voices"):
        assert (out / f"{name}.png").stat().st_size > 1000
    assert [path.name for path in sorted(out.glob("*.mid"))] == sorted(
        example["file"] for example in summary["examples"]
    )


def test_the_vocabulary_is_that_of_training_alone(finished):
    tokens = json.loads((finished[0] / "preprocessing.json").read_text())["tokens"]
    events = [
        application.to_events(application.home(c), c.bar, c.upbeat) for c in music.load("train")
    ]
    assert tuple(tokens) == Vocabulary.fit(events, min_count=2).tokens


def test_it_answers_a_key_with_music_in_it(finished):
    out, _ = finished
    (answer,) = ask(out, "C major")
    again = ask(out, "D major")
    assert answer.startswith(f"C major: {out / 'asked_C_major.mid'} (")
    notes = []
    for name in ("asked_C_major.mid", "asked_D_major.mid"):
        read: Any = converter.parse(out / name, forceSource=True)
        notes.append(sorted((n.offset, n.pitch.midi) for n in read.stripTies().flatten().notes))
    assert len(notes[0]) > 4 and notes[1] == [(t, pitch + 2) for t, pitch in notes[0]]
    assert ask(out, "D major") == again


def test_keys_in_a_file_are_all_answered_or_none(finished, tmp_path):
    out, _ = finished
    (tmp_path / "keys.txt").write_text("e minor\nB♭ major\n")
    assert [line.split(":")[0] for line in ask(out, str(tmp_path / "keys.txt"))] == [
        *("e minor", "B♭ major")
    ]
    assert (out / "asked_Bb_major.mid").exists()
    (tmp_path / "keys.txt").write_text("g minor\nH major\n")
    with pytest.raises(application.ArgumentError, match="'G major' or 'f# minor', got 'H major'"):
        ask(out, str(tmp_path / "keys.txt"))
    assert not (out / "asked_g_minor.mid").exists()


def test_without_music21_nothing_is_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(application.ArgumentError, match=r"pip install 'rnnjax\[music\]'"):
        application.run(dataclasses.replace(TINY, out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network tcn", ("--network", "tcn", "gru")),
        ("--window 1", ("--window", "at least 2", "1")),
        ("--temperature 0", ("--temperature", "positive", "0")),
        ("--batch-size 1000", ("--batch-size", "at most", "1000")),
        ("--predict G_major", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
