"""The TFDS builder of the digits in Speech Commands 0.02; it runs without TensorFlow."""

import io
import tarfile
from typing import ClassVar

import tensorflow_datasets as tfds

from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.features import SpokenDigits
from rnnjax.datasets.speech.sources import SPLITS, WORDS

LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}
"""The files of Speech Commands that list the recordings of a split."""


class SpeechCommandDigits(SpokenDigits, skip_registration=True):
    """Builds the ten digit words of Speech Commands 0.02: one word per recording, many speakers.

    Raises RuntimeError when the archive's lists do not keep its speakers apart. Licence: CC BY 4.0.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The ten digits of version 0.02, resampled to 8 kHz."}
    DESCRIPTION = """\
Recordings of people who say one of the ten digits, about a second each: the digit words of Speech
Commands 0.02, 16-bit, resampled from 16 kHz to 8 kHz. Validation and test are what the archive's
validation_list.txt and testing_list.txt name, train is the rest; they keep speakers apart. Accent,
speed and pitch are not known: "" and 0."""
    CITATION = """\
@article{warden2018speech,
  title = {Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition},
  author = {Warden, Pete},
  journal = {arXiv:1804.03209},
  year = {2018},
}"""
    HOMEPAGE = "https://arxiv.org/abs/1804.03209"
    DOWNLOADS: ClassVar = {
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz": (
            2428923189,
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        )
    }

    def _split_generators(self, dl_manager):
        (address,) = self.DOWNLOADS
        archive = dl_manager.download(address)
        split_of = _listed_splits(archive)
        return {
            split: self._generate_examples(_recordings(archive, split_of, split))
            for split in SPLITS
        }


def _files(archive):
    """Return the files in a tar archive, one by one: name, a function that reads it."""
    with tarfile.open(archive) as files:
        for member in files:
            if (file := files.extractfile(member)) is not None:
                yield member.name.removeprefix("./"), file.read


def _words(archive):
    """Return the recordings of digits in the archive, one by one: name, speaker, digit, read."""
    for name, read in _files(archive):
        word, _, file = name.rpartition("/")
        if word in WORDS and file.endswith(".wav"):
            yield name, file.split("_nohash_")[0], str(WORDS.index(word)), read


def _listed_splits(archive):
    """Return the split of every recording of a digit, by the archive's lists: name -> split."""
    listed = {}
    for name, read in _files(archive):
        if name in LISTS:
            listed |= dict.fromkeys(read().decode().split(), LISTS[name])
    split_of, home = {}, {}
    for name, speaker, _, _ in _words(archive):
        split_of[name] = listed.get(name, "train")
        if home.setdefault(speaker, split_of[name]) != split_of[name]:
            raise RuntimeError(f"speaker {speaker} is in {home[speaker]} and {split_of[name]}")
    return split_of


def _recordings(archive, split_of, split):
    for name, speaker, digit, read in _words(archive):
        if split_of[name] == split:
            sound = {"audio": audio.read_wav(io.BytesIO(read())), "digits": digit}
            yield {**sound, "speaker": speaker, "accent": "", "speed": 0, "pitch": 0}
