"""Speech recognition: how errors are counted, what a run holds, and what it answers afterwards."""

import dataclasses
import json
import wave

import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.datasets import speech
from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.transcripts import edit_distance

pytestmark = pytest.mark.slow
application = load(ROOT / "experiments" / "applications" / "speech_recognition.py")
TINY = application.Config(
    features=8, steps=20, batch_size=8, learning_rate=1e-2, record_every=1, seeds=2, beam_width=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "run"
    return out, application.run(dataclasses.replace(TINY, out=out))


def test_the_summary_has_its_metric_its_baseline_and_its_source(finished):
    out, summary = finished
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["verdict"]["outcome"] == "quick run only"
    assert summary["metric"] == "digit error rate" and not summary["higher_is_better"]
    assert summary["value"] == np.mean(summary["values"]) and len(summary["values"]) == 2
    assert "synthetic speech" in summary["source"]
    assert "demonstration scale" in summary["source"]
    train, test = ([r.digits for r in speech.load("espeak", s)] for s in ("train", "test"))

    def errors(answer, truths):
        return sum(edit_distance(answer, truth) for truth in truths)

    (name,) = summary["baselines"]
    constant = name.removeprefix("best constant answer, ")
    assert summary["baseline"] == pytest.approx(errors(constant, test) / len("".join(test)))
    for other in ("", *"0123456789", "12", constant * 2):
        assert errors(constant, train) <= errors(other, train)
    assert summary["error_rate_by_speaker"].keys() == {
        r.speaker for r in speech.load("espeak", "test")
    }
    for name in ("gradients", "training", "alignment"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_it_learns(finished):
    rows = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    loss = [np.mean([row["loss"] for row in rows if row["step"] == step]) for step in (1, 20)]
    assert loss[1] < loss[0] / 2


def test_probabilities_over_time_are_of_one_label_or_none(finished):
    lines = (finished[0] / "alignment.csv").read_text().splitlines()
    assert lines[0] == "label,seconds,median"
    totals = {}
    for line in lines[1:]:
        label, seconds, chance = line.split(",")
        assert label == "blank" or label.startswith("digit ")
        totals[seconds] = totals.get(seconds, 0) + float(chance)
    assert min(totals.values()) > 0 and max(totals.values()) < 1 + 1e-5
    assert np.diff(np.array([*totals], float)) == pytest.approx(0.02)


def test_deviation_is_that_of_training_alone(finished):
    stored = json.loads((finished[0] / "preprocessing.json").read_text())["deviation"]
    frames = [audio.LogMel().frames(r.samples) for r in speech.load("espeak", "train")]
    squares = [((f - f.mean(0)) ** 2).sum(0) for f in frames]
    expected = np.sqrt(np.sum(squares, 0) / sum(map(len, frames)))
    np.testing.assert_allclose(stored, expected, rtol=1e-3)


def test_it_answers_about_wav_files_as_about_the_test_recordings(finished, tmp_path):
    out, summary = finished
    test = speech.load("espeak", "test")
    example = summary["examples"][1]
    (recording,) = (
        r for r in test if (r.speaker, r.digits) == (example["speaker"], example["said"])
    )
    audio.write_wav(tmp_path / "said.wav", recording.samples)
    asked = dataclasses.replace(TINY, out=out, predict=str(tmp_path / "said.wav"))
    assert application.run(asked) == [example["written"] or "no digit"]


def test_clips_are_test_recordings_named_by_what_they_say(finished):
    clips = sorted((finished[0] / "clips").iterdir())
    test = {(r.digits, r.speaker): r.samples for r in speech.load("espeak", "test")}
    assert len(clips) == 4
    for path in clips:
        with wave.open(str(path)) as file:
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        np.testing.assert_array_equal(heard, test[tuple(path.stem.split("_"))])


def test_silence_has_an_answer_and_no_sound_at_all_is_an_error(finished, tmp_path, refuses):
    frames = application.centred_frames(np.zeros(8000, np.int16), application.MEL)
    np.testing.assert_array_equal(frames, np.zeros((51, 40)))
    nothing = np.zeros(0, np.int16)
    assert application.centred_frames(nothing, application.MEL).shape == (0, 40)
    for name, content in (("empty", np.zeros(0, np.int16)), ("text", b"four zero seven")):
        path = tmp_path / f"{name}.wav"
        if name == "empty":
            audio.write_wav(path, content)
        else:
            path.write_bytes(content)
        words = {"empty": "holds no sound", "text": "is not a WAV file"}[name]
        refuses(application, f"--out {finished[0]} --predict {path}", ("--predict", words))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network mamba", ("--network", "mamba", "bidirectional_gru")),
        ("--source festival", ("--source", "festival", "speech_commands")),
        ("--batch-size 721", ("--batch-size", "720", "721")),
        ("--noise -1", ("--noise", "at least 0", "-1")),
        ("--predict said.wav", ("--predict", "finished run", "--out")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, words, refuses):
    refuses(application, arguments, words)
