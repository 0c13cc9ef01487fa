"""The TFDS builders of synthetic spoken digits; they run without TensorFlow."""

import itertools
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.batches import fold, shuffled
from rnnjax.datasets.speech import audio
from rnnjax.datasets.speech.espeak import Utterance, speak
from rnnjax.datasets.speech.features import SpokenDigits
from rnnjax.datasets.speech.sources import SPLITS, WORDS

ACCENTS = ("en-US", "en", "en-GB-scotland", "en-029", "en-GB-x-rp", "en-US-nyc")
"""espeak-ng's American, British, Scottish, Caribbean, received pronunciation and New York."""

SPEAKERS = (
    *("m1", "m2", "m3", "m4", "m8", "f1", "f2", "f3", "f4", "Alex", "Alicia", "Andrea", "Andy"),
    *("Annie", "Denis", "Diogo", "Gene", "Jacky", "Lee", "Marco", "Mario", "Storm", "anika"),
    *("antonio", "belinda", "boris", "ed", "grandma", "gustave", "ian", "iven", "john", "linda"),
    *("miguel", "norbert", "pablo", "paul", "pedro", "rob", "sandro", "shelby", "travis", "victor"),
    "zac",
)
"""Variants of espeak-ng's voice, our speakers; no two of them sound nearly the same."""


class _Espeak(SpokenDigits, skip_registration=True):
    CITATION = """\
@misc{espeakng,
  title = {eSpeak NG Text-to-Speech},
  author = {Duddington, Jonathan and Dunn, Reece H. and others},
  howpublished = {https://github.com/espeak-ng/espeak-ng},
}"""
    HOMEPAGE = "https://github.com/espeak-ng/espeak-ng"

    def _spoken(self, plan):
        """Return the splits with the rows `(digits, speaker, accent, speed, pitch)` spoken.

        Raises ModuleNotFoundError when espeakng_loader is missing, ChildProcessError when it fails.
        """
        rows = list(itertools.chain(*plan.values()))
        rate, sounds = speak([_utterance(*row) for row in rows])
        sounds = iter(sounds)

        def spoken(rows):
            for (digits, speaker, accent, speed, pitch), sound in zip(rows, sounds, strict=False):
                yield {
                    "audio": audio.resample(sound, rate),
                    "digits": digits,
                    "speaker": speaker,
                    "accent": accent,
                    "speed": speed,
                    "pitch": pitch,
                }

        return {split: self._generate_examples(list(spoken(rows))) for split, rows in plan.items()}


class EspeakDigitStrings(_Espeak, skip_registration=True):
    """Builds strings of one to five digits, spoken by speakers that keep to one split.

    Raises ModuleNotFoundError when espeakng_loader is missing. Source: espeak-ng, GPL-3.0-or-later.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "44 speakers; 720 strings in train, 90 and 160 held out."}
    DESCRIPTION = """\
Synthetic speech, demonstration scale: strings of one to five digits, spoken in English by the
synthesiser espeak-ng, 16-bit, resampled to 8 kHz. A speaker is a variant of its voice, which
sets the vocal tract, the pitch and the manner; accent, speed and pitch are drawn for each string.
The splits keep speakers apart (30 in train, 6 in validation, 8 in test), not accents. No speaker
says a string twice."""

    def _split_generators(self, dl_manager):
        del dl_manager
        return self._spoken(
            {
                split: [row for speaker in speakers for row in _strings(speaker, count)]
                for (split, speakers), count in zip(_speakers().items(), (24, 15, 20), strict=True)
            }
        )


class EspeakDigits(_Espeak, skip_registration=True):
    """Builds single digits by every speaker at three speeds; splits keep pairs of the two apart.

    Raises ModuleNotFoundError when espeakng_loader is missing. Source: espeak-ng, GPL-3.0-or-later.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "44 speakers, ten digits, three speeds."}
    DESCRIPTION = """\
Synthetic speech, demonstration scale: the ten digits, each said once at three speeds by 44 variants
of the voice of the synthesiser espeak-ng (American English, each variant's own pitch), 16-bit,
resampled to 8 kHz. The splits keep pairs of digit and speaker apart, at all speeds: of each speaker
one digit is in validation and two are in test, so that every digit and every speaker is in train,
but no held-out pair."""

    def _split_generators(self, dl_manager):
        del dl_manager
        plan = {split: [] for split in SPLITS}
        for number, speaker in enumerate(SPEAKERS):
            for digit, speed in itertools.product(range(10), (130, 160, 190)):
                split = {0: "test", 5: "test", 2: "validation"}.get((digit - number) % 10, "train")
                plan[split].append((str(digit), speaker, "en-US", speed, 50))
        return self._spoken(plan)


def _speakers():
    """Return the speakers of each split of the digit strings."""
    order = [SPEAKERS[place] for place in shuffled(len(SPEAKERS), 0)]
    return {"train": order[14:], "validation": order[8:14], "test": order[:8]}


def _strings(speaker, count):
    """Return `count` rows `(digits, speaker, accent, speed, pitch)`, with no digits twice."""
    numbers = iter(np.random.PCG64(fold(speaker, 2**32)).random_raw(100 * count).tolist())
    rows = {}
    while len(rows) < count:
        digits = "".join(str(next(numbers) % 10) for _ in range(len(rows) % 5 + 1))
        accent = ACCENTS[next(numbers) % len(ACCENTS)]
        speed, pitch = 120 + next(numbers) % 81, 35 + next(numbers) % 31
        rows.setdefault(digits, (digits, speaker, accent, speed, pitch))
    return list(rows.values())


def _utterance(digits, speaker, accent, speed, pitch):
    text = " ".join(WORDS[int(digit)] for digit in digits)
    return Utterance(text, f"gmw/{accent}+{speaker}", speed, pitch)
