"""What somebody asks a network to say, and recordings of some speakers."""

import functools

import numpy as np
import pytest

from rnnjax.datasets import speech
from rnnjax.datasets.speech import Recording

parse = functools.partial(speech.parse_request, voices=["m1", "f2"], voice="m1", longest=3)


def test_a_voice_may_follow_the_digits():
    assert parse("seven") == ("7", "m1")
    assert parse("four 0 7 f2") == ("407", "f2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ten", "'ten' is no digit.*a voice may follow: m1, f2"),
        ("f2", "no digit"),
        ("7 bob", "'bob'"),
        ("1234", "at most 3 digits .* got 4"),
    ],
)
def test_what_cannot_be_said_is_named(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_each_speaker_gives_another_recording():
    said = [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"), ("b", "5"), ("c", "6"), ("d", "7")]
    recordings = [Recording(np.zeros(0, np.int16), digits, name) for name, digits in said]
    found = speech.of_each_speaker(recordings, 3)
    assert [r.digits for r in found] == ["3", "5", "6"]  # second, third, the only one
