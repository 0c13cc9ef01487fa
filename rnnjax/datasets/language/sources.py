"""The collections of documents for language models."""

import platform
from typing import NamedTuple


class Source(NamedTuple):
    """One collection of documents."""

    description: str  # for reports: the content and its scale


SOURCES = {
    "python_topics": Source(
        f"the help topics of Python {platform.python_version()} (pydoc_data), English and code, "
        "split by topic: demonstration scale",
    ),
    "tiny_shakespeare": Source(
        "40,000 lines of Shakespeare's plays (tiny_shakespeare), test is the last twentieth",
    ),
}
