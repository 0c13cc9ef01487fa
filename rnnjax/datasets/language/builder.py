"""The TFDS builders of texts for language models; they run without TensorFlow.

TFDS's own `tiny_shakespeare` reads its file with TensorFlow; ours has the same address, checksum
and splits.
"""

import sys
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from rnnjax.datasets.batches import fold
from rnnjax.datasets.builders import Builder
from rnnjax.datasets.language.overlap import unlike

SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)


class LanguageBuilder(Builder, skip_registration=True):
    """Builds examples of name and text, one per document; abstract."""

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        return {"name": tfds.features.Text(), "text": tfds.features.Text()}


class PythonTopics(LanguageBuilder, skip_registration=True):
    """Builds the help topics of the running Python; its version is the version of the data.

    Raises ModuleNotFoundError if this Python lacks `pydoc_data`.
    """

    VERSION = tfds.core.Version(".".join(map(str, sys.version_info[:3])))
    DESCRIPTION = """\
The chapters of the Python Language Reference that `help()` shows, English with code and grammar, as
Python itself ships them in `pydoc_data.topics`: their text, and so these data, are those of one
version of Python, which is the version of the data. Many topics are parts of longer ones: a topic
is left out if at least half of its shingles (eight consecutive words) are found in longer topics.
Topics that share at least a twentieth of their shingles form a group, and a group is in one split.
The name of a group's longest topic determines whether it is in train, validation (fold 0 of ten) or
test (fold 2), so that a topic keeps its split from version to version. (Fold 1 is one paragraph.)
About 370 thousand characters in 57 topics: demonstration scale. Licence: PSF-2.0."""
    CITATION = """\
@manual{python,
  title = {The Python Language Reference},
  author = {{Python Software Foundation}},
  url = {https://docs.python.org/3/reference/},
}"""
    HOMEPAGE = "https://docs.python.org/3/reference/"

    def _split_generators(self, dl_manager):
        try:
            from pydoc_data.topics import topics
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the topics come with Python, not with rnnjax[text]; {error.name} cannot be "
                "imported: install all of Python's standard library, or choose another source",
                name=error.name,
            ) from None
        sides = {0: "validation", 2: "test"}
        rows = {"train": [], "validation": [], "test": []}
        for group in unlike(topics):
            side = sides.get(fold(group[0], 10), "train")
            rows[side] += [{"name": name, "text": topics[name]} for name in group]
        return {side: self._generate_examples(rows[side]) for side in rows}


class TinyShakespeare(LanguageBuilder, skip_registration=True):
    """Builds the 40,000 lines of Shakespeare of A. Karpathy's char-rnn, one document per split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The splits of TFDS: 90%, 5% and 5% of the characters."}
    DESCRIPTION = """\
40,000 lines from a variety of Shakespeare's plays, 1,115,394 characters, first used by A. Karpathy
in "The unreasonable effectiveness of recurrent neural networks" (2015). Train is the first 90% of
the characters, validation the next 5%, test the last 5%, as in TFDS: the scenes at the cuts are on
both sides of them."""
    CITATION = """\
@misc{karpathy2015charrnn,
  author = {Karpathy, Andrej},
  title = {char-rnn},
  year = {2015},
  howpublished = {https://github.com/karpathy/char-rnn},
}"""
    HOMEPAGE = "https://github.com/karpathy/char-rnn/blob/master/data/tinyshakespeare/input.txt"
    DOWNLOADS: ClassVar = {
        SHAKESPEARE: (
            1115394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        )
    }

    def _split_generators(self, dl_manager):
        (address,) = self.DOWNLOADS
        text = Path(dl_manager.download(address)).read_text(encoding="utf-8")
        first = int(len(text) * 0.9)
        second = first + int((len(text) - first) * 0.5)
        parts = {
            "train": text[:first],
            "validation": text[first:second],
            "test": text[second:],
        }
        return {
            split: self._generate_examples([{"name": split, "text": part}])
            for split, part in parts.items()
        }


BUILDERS = {"python_topics": PythonTopics, "tiny_shakespeare": TinyShakespeare}
