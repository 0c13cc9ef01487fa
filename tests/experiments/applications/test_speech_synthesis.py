"""Speech synthesis: what is fitted, a run, and what it says."""

import dataclasses
import json
import wave

import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.datasets import speech
from rnnjax.datasets.speech import audio

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "speech_synthesis.py")
TINY = application.Config(features=16, steps=40, learning_rate=2e-2, record_every=1, seeds=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


def test_normalisation_and_voices_are_those_of_training_alone(finished):
    stored = json.loads((finished[0] / "preprocessing.json").read_text())
    train = speech.load("espeak_digits", "train")
    frames = [audio.LogMel(window=512, hop=128).frames(r.samples) for r in train]
    every = np.concatenate(frames).astype(np.float64)
    np.testing.assert_allclose(stored["mean"], every.mean(0), rtol=1e-3)
    np.testing.assert_allclose(stored["deviation"], every.std(0), rtol=1e-3)
    assert stored["voices"] == sorted({r.speaker for r in train})
    assert stored["length"] == max(map(len, frames))


# --- a run -------------------------------------------------------------------------------------


def test_the_summary_has_its_metric_its_baselines_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["metric"] == "distance in dB" and not summary["higher_is_better"]
    assert summary["value"] == np.mean(summary["values"]) and len(summary["values"]) == 2
    assert summary["baseline"] == min(summary["baselines"].values())
    digit, moved, everything = summary["baselines"].values()
    assert moved < digit < everything
    assert summary["true_recordings_recognised"] > 0.95
    assert "synthetic speech" in summary["source"]
    assert "no pair of digit and voice of the test is in training" in summary["source"]
    for name in ("gradients", "training", "spectrograms"):
        assert (out / f"{name}.png").stat().st_size > 1000
    kinds = sorted(path.stem.split("_", 2)[2] for path in (out / "clips").iterdir())
    assert kinds == ["drawn"] * 3 + ["true"] * 3 + ["true_frames"] * 3


def test_it_learns(finished):
    rows = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    loss = [np.mean([row["loss"] for row in rows if row["step"] == step]) for step in (1, 40)]
    assert loss[1] < loss[0] * 0.8


def test_it_says_digits_with_a_voice_into_wav_files(finished, tmp_path):
    out, _ = finished
    (tmp_path / "lines.txt").write_text("seven\nfour 0 7 f2\n")
    asked = dataclasses.replace(TINY, out=out, predict=str(tmp_path / "lines.txt"))
    paths = application.run(asked)
    assert paths == [str(out / "said" / name) for name in ("7_m1.wav", "407_f2.wav")]
    for path in paths:
        with wave.open(path) as file:
            assert file.getparams()[:3] == (1, 2, 8000) and file.getnframes() > 0
    first = (out / "said" / "7_m1.wav").read_bytes()
    assert application.run(dataclasses.replace(asked, predict="7")) == paths[:1]
    assert (out / "said" / "7_m1.wav").read_bytes() == first


@pytest.mark.parametrize(
    ("asked", "words"),
    [("ten", "'ten' is no digit"), ("f2", "no digit"), ("7 bob", "'bob'"), ("1" * 21, "20")],
)
def test_what_it_cannot_say_is_one_line(asked, words, finished, monkeypatch, capsys):
    arguments = ["speech_synthesis", "--out", str(finished[0]), "--predict", asked]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        application.run.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network transformer", ("--network", "transformer", "gru")),
        ("--features 0", ("--features", "at least 1", "0")),
        ("--batch-size 925", ("--batch-size", "924", "925")),
        ("--predict seven", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
