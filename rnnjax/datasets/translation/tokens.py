"""Sentences in English, French and Portuguese to tokens and back."""

import re
import unicodedata
from collections.abc import Iterable


def plain(text: str) -> str:
    """Return a text in lower case, with straight apostrophes and single spaces between words."""
    text = unicodedata.normalize("NFC", text.lower())
    return " ".join(text.replace("’", "'").replace("...", "…").split())


def tokenize(text: str) -> list[str]:
    """Return the words, placeholders and punctuation marks of the `plain` text.

    Letters before an apostrophe form a word with it, like French articles: "L'extension n'a pas
    de %1." is `["l'", "extension", "n'", "a", "pas", "de", "%1", "."]`. Hyphens do not split words.
    """
    return re.findall(
        r"%\d+|(?<!\S)'(?:s|t|re|ve|ll|d|m)\b|\w+'(?=\w)|\w+(?:-\w+)*|[^\w\s]", plain(text)
    )


def detokenize(tokens: Iterable[str]) -> str:
    """Return tokens as a text, separated by spaces except beside punctuation."""
    text = re.sub(r"(?<=\w') (?=\w)", "", " ".join(tokens))
    return re.sub(r" (?=[.,…)\]}])|(?<=[(\[{]) ", "", text)
