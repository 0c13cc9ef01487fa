"""Keys such as "G major" and "f# minor", as people write them."""

import re

LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}  # pitch classes
SIGNS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}


def parse_key(text: str) -> tuple[int, str]:
    """Return the pitch class of the tonic (0 is C) and the mode, "major" or "minor".

    Raises:
        ValueError: the text is not a letter, perhaps a sharp or a flat, and a mode.
    """
    found = re.fullmatch(r"([a-g])([#♯b♭]?)\s+(major|minor)", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError(f"a key must be like 'G major' or 'f# minor', got {text!r}")
    letter, sign, mode = (group.lower() for group in found.groups())
    return (LETTERS[letter] + SIGNS[sign]) % 12, mode


def file_name(key: str) -> str:
    """Return a key as a part of a file name, in ASCII: "f♯ minor" is "fsharp_minor"."""
    spelled = key.replace("♯", "sharp").replace("#", "sharp").replace("♭", "b")
    return "_".join(spelled.split())
