"""Frames against their definition, WAV files against the standard library."""

import io
import sys
import wave

import numpy as np
import pytest

from rnnjax.datasets import speech
from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.audio import LogMel

SPLITS = "train", "validation", "test"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def single(data_dir):
    return {split: speech.load("espeak_digits", split, data_dir) for split in SPLITS}


@pytest.mark.slow
def test_without_librosa_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[speech\]'"):
        LogMel().frames(np.ones(100, np.int16))


def wav(samples, rate=16000, channels=1):
    """Return a 16-bit WAV file, by the standard library."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((channels, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.asarray(samples, "<i2").tobytes())
    return file.getvalue()


def tone(hertz, rate, count, amplitude=8000):
    return np.round(amplitude * np.sin(2 * np.pi * hertz * np.arange(count) / rate)).astype("<i2")


@pytest.mark.slow
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


@pytest.mark.slow
def test_ten_times_louder_is_20_db_and_silence_is_the_floor():
    mel = LogMel()
    quiet, loud = (mel.frames(tone(1000, 8000, 4000, a).astype(np.int16)) for a in (2000, 20000))
    heard = quiet > -30
    assert heard.any() and np.abs(loud - quiet - 20)[heard].max() < 0.1
    np.testing.assert_allclose(mel.frames(np.zeros(800, np.int16)), np.full((6, 40), -80))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "frames"), [(0, 0), (1, 1), (159, 1), (160, 2), (1600, 11)])
def test_frames_of_short_sounds(count, frames):
    assert LogMel().frames(np.ones(count, np.int16)).shape == (frames, 40)


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_is_too_loud_is_clipped():
    assert np.abs(LogMel().samples(np.full((20, 40), 60, np.float32)).astype(int)).max() >= 32767


@pytest.mark.slow
def test_wav_files_are_what_the_standard_library_reads_and_writes(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768, 250], np.int16)
    audio.write_wav(tmp_path / "a.wav", samples)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 6)
        assert file.readframes(6) == samples.astype("<i2").tobytes()
    np.testing.assert_array_equal(audio.read_wav(tmp_path / "a.wav"), samples)
    np.testing.assert_array_equal(audio.read_wav(io.BytesIO(wav(samples, 8000))), samples)


@pytest.mark.slow
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


@pytest.mark.slow
def test_another_rate_is_resampled():
    file = io.BytesIO(wav(tone(440, 44100, 44100), 44100))
    sound = audio.read_wav(file)
    assert len(sound) == 8000
    assert np.abs(sound - tone(440, 8000, 8000).astype(int))[100:-100].max() < 40
    above = audio.resample(tone(5000, 16000, 16000).astype(np.int16), 16000)
    assert np.abs(above[100:-100]).max() < 80  # 5 kHz cannot be heard at 8 kHz
    assert len(audio.resample(np.zeros(0, np.int16), 44100)) == 0


@pytest.mark.slow
def test_audio_of_zero_length_is_no_frames(tmp_path):
    audio.write_wav(tmp_path / "empty.wav", np.zeros(0, np.int16))
    assert LogMel().frames(audio.read_wav(tmp_path / "empty.wav")).shape == (0, 40)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"RIFF", b"hello, this is text", wav([1, 2, 3])[:30]])
def test_what_is_no_wav_file_is_named(content, tmp_path):
    path = tmp_path / "words.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="words.wav is not a WAV file"):
        audio.read_wav(path)


@pytest.mark.slow
def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.wav"):
        audio.read_wav(tmp_path / "none.wav")


@pytest.mark.slow
def test_clips_are_wav_files_of_a_folder(tmp_path):
    sounds = {"a": np.arange(5, dtype=np.int16), "b": np.arange(3, dtype=np.int16)}
    for _ in range(2):  # the folder may be there
        paths = audio.write_clips(tmp_path / "clips", sounds)
    assert paths == [tmp_path / "clips" / "a.wav", tmp_path / "clips" / "b.wav"]
    for path, samples in zip(paths, sounds.values(), strict=True):
        np.testing.assert_array_equal(audio.read_wav(path), samples)
