"""The collections of spoken digits, and digits as words."""

from collections.abc import Sequence

SPLITS = ("train", "validation", "test")

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

SOURCES = {
    "espeak": "synthetic speech by espeak-ng: digit strings, 44 speakers (demonstration scale)",
    "espeak_digits": "synthetic speech by espeak-ng: single digits, 44 speakers (demonstration "
    "scale)",
    "speech_commands": "the ten digits of Speech Commands 0.02 (Warden 2018), real recordings",
}
"""The sources, with descriptions for reports."""


def digits_of(text: str) -> str:
    """Return the digits in a text of digits or digit words: "four 0 seven" is "407".

    Raises:
        ValueError: a word is not a digit, or there are no words; the message names the word.
    """
    found = []
    for word in text.lower().replace(",", " ").split():
        digits = str(WORDS.index(word)) if word in WORDS else word
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"{word!r} is no digit; known are 0 to 9 and {', '.join(WORDS)}")
        found.append(digits)
    if not found:
        raise ValueError("there is no digit in the text")
    return "".join(found)


def parse_request(text: str, voices: Sequence[str], *, voice: str, longest: int) -> tuple[str, str]:
    """Return the digits and the voice in a text such as "four 0 7 f2".

    Args:
        text: digits or digit words, and perhaps a voice.
        voices: those that are known.
        voice: what is meant if the text names none.
        longest: most digits.

    Raises:
        ValueError: a word is neither a digit nor a voice, or there are too many digits or none.
    """
    words = text.split()
    voice = words.pop() if words and words[-1] in voices else voice
    try:
        digits = digits_of(" ".join(words))
    except ValueError as error:
        raise ValueError(f"{error}; a voice may follow: {', '.join(voices)}") from None
    if len(digits) > longest:
        raise ValueError(f"at most {longest} digits can be said at once, got {len(digits)}")
    return digits, voice
