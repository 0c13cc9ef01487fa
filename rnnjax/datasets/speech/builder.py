"""The TFDS builder of each source of spoken digits."""

from rnnjax.datasets.speech.espeak_digits import EspeakDigits, EspeakDigitStrings
from rnnjax.datasets.speech.speech_commands import SpeechCommandDigits

BUILDERS = {
    "espeak": EspeakDigitStrings,
    "espeak_digits": EspeakDigits,
    "speech_commands": SpeechCommandDigits,
}
