"""Speech Commands, by a small archive of the same form."""

import hashlib
import io
import shutil
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest

from rnnjax.datasets import speech
from rnnjax.datasets.speech import speech_commands

SPLITS = "train", "validation", "test"


@pytest.fixture
def shown(served, monkeypatch):
    """Return a folder that is served, and what makes an archive in it the builder's."""
    folder, address = served

    def announce(name, checksum=None):
        content = (folder / name).read_bytes()
        facts = len(content), checksum or hashlib.sha256(content).hexdigest()
        downloads = {f"{address}/{name}": facts}
        monkeypatch.setattr(speech_commands.SpeechCommandDigits, "DOWNLOADS", downloads)

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


def archive_with(**lists):
    files = {name: wav(tone(hertz, 16000, 16000)) for name, hertz in RECORDINGS.items()}
    files |= {f"./{name}_list.txt": text.encode() for name, text in lists.items()}
    return files | {"./README.md": b"## Speech Commands"}


def test_speech_commands_are_split_by_the_archives_lists(shown, tmp_path):
    folder, announce = shown
    lists = {
        "validation": "one/bb_nohash_0.wav\n",
        "testing": "two/cc_nohash_0.wav\nbed/cc_nohash_0.wav\n",
    }
    write_archive(folder / "speech_commands_v0.02.tar.gz", archive_with(**lists))
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
    files = archive_with(validation="nine/aa_nohash_1.wav", testing="")
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
    assert speech_commands.SpeechCommandDigits.DOWNLOADS.items() <= recorded.items()
