"""Keys as people write them."""

import pytest

from rnnjax.datasets import music


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("G major", (7, "major")),
        ("a minor", (9, "minor")),
        ("F# minor", (6, "minor")),
        (" Bb major ", (10, "major")),
        ("b minor", (11, "minor")),
        ("c♭ major", (11, "major")),
    ],
)
def test_keys(text, key):
    assert music.parse_key(text) == key


@pytest.mark.parametrize("text", ["H major", "G", "major", "G## major", ""])
def test_what_is_no_key_is_named(text):
    with pytest.raises(ValueError, match=f"must be like 'G major' or 'f# minor', got {text!r}"):
        music.parse_key(text)


def test_a_key_in_a_file_name_is_ascii():
    names = [music.file_name(key) for key in ("f♯ minor", "f# minor", "B♭ major", "Bb  major")]
    assert names == ["fsharp_minor", "fsharp_minor", "Bb_major", "Bb_major"]
