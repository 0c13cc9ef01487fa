"""Music generation: the bits of events, the files of a run, and its answers."""

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
from rnnjax.command_line import ArgumentError
from rnnjax.datasets import batches, music
from rnnjax.datasets.music import builder
from rnnjax.datasets.music.examples import events
from rnnjax.datasets.music.n_grams import bits_per_sixteenth
from rnnjax.datasets.vocabulary import Vocabulary
from rnnjax.runs import Run

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


# --- bits -------------------------------------------------------------------------------------


def test_bits_are_those_of_the_steps_that_write(finished):
    """Teacher forcing against the model read event by event, with a log-softmax of its own."""
    out, summary = finished
    vocabulary = Vocabulary(tuple(json.loads((out / "preprocessing.json").read_text())["tokens"]))
    model = TINY.make_model(len(vocabulary))
    params = experiment.restore(
        Run(out),
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
    valid = batches.valid(np.asarray(batch["lengths"]), batch["targets"].shape[1])
    assert (np.asarray(losses)[~valid] == 0).all()


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


def test_from_a_tiny_nucleus_it_writes_what_is_most_probable():
    vocabulary = Vocabulary.fit(events(music.load("train")), min_count=2)
    params = application.initialise(TINY.make_model(len(vocabulary)), jax.random.key(0))
    changes = {"temperature": 1e-5}, {"temperature": 9.0}, {"temperature": 9.0, "top_p": 1e-6}
    cold, hot, narrow = (
        application.write(dataclasses.replace(TINY, **c), vocabulary, params, ["major"], seed=0)[0]
        for c in changes
    )
    np.testing.assert_array_equal(narrow, cold)
    assert hot.shape != cold.shape or (hot != cold).any()


# --- a run ------------------------------------------------------------------------------------


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["metric"] == "bits per sixteenth" and not summary["higher_is_better"]
    expected = bits_per_sixteenth(music.load("train"), music.load("test"))
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
    assert tuple(tokens) == Vocabulary.fit(events(music.load("train")), min_count=2).tokens


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
    with pytest.raises(ArgumentError, match="'G major' or 'f# minor', got 'H major'"):
        ask(out, str(tmp_path / "keys.txt"))
    assert not (out / "asked_g_minor.mid").exists()


def test_without_music21_nothing_is_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"pip install 'rnnjax\[music\]'"):
        application.run(dataclasses.replace(TINY, out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network tcn", ("--network", "tcn", "gru")),
        ("--window 1", ("--window", "at least 2", "1")),
        ("--temperature 0", ("--temperature", "positive", "0")),
        ("--top-p 1.5", ("--top-p", "positive and at most 1", "1.5")),
        ("--batch-size 1000", ("--batch-size", "at most", "1000")),
        ("--predict G_major", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
