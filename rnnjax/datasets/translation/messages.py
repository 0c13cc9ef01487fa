"""Sentence pairs grouped by what they say, so that a sentence is in one split."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from rnnjax.datasets.batches import fold

Pair = tuple[str, str]

SPLITS = "test", "validation", *["train"] * 8  # by fold


def bare(text: str) -> str:
    """Return the letters and digits of a text, in lower case, without accents and placeholders."""
    text = unicodedata.normalize("NFKD", re.sub(r"%\d+", "", text.casefold()))
    return "".join(filter(str.isalnum, text))


def by_message(pairs: Iterable[Pair]) -> dict[str, Iterator[Pair]]:
    """Return splits of the pairs that keep pairs together if their `bare` text agrees on a side.

    This is transitive: a group is a connected component of the graph in which sources and targets
    are nodes and pairs are edges. Its alphabetically first bare source determines its split.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first: dict[Pair, Pair] = {}
    for source, target in pairs:
        first.setdefault((bare(source), bare(target)), (source, target))
    kept = sorted((key, pair) for key, pair in first.items() if all(key))
    sources, columns = np.unique([key[0] for key, _ in kept], return_inverse=True)
    targets, rows = np.unique([key[1] for key, _ in kept], return_inverse=True)
    nodes = len(sources) + len(targets)
    edges = np.ones(len(kept)), (columns, len(sources) + rows)
    _, group = connected_components(coo_array(edges, (nodes, nodes)), directed=False)
    names: dict[int, str] = {}
    for source, label in zip(sources, group, strict=False):  # in alphabetical order
        names.setdefault(label, str(source))
    splits: dict[str, list[Pair]] = {split: [] for split in ("train", "validation", "test")}
    for column, (_, pair) in zip(columns, kept, strict=True):
        splits[SPLITS[fold(names[group[column]], len(SPLITS))]].append(pair)
    return {split: iter(rows) for split, rows in splits.items()}


def apart(splits: Mapping[str, Iterable[Pair]]) -> dict[str, Iterator[Pair]]:
    """Return the splits without pairs that agree on a `bare` side with a pair of an earlier split.

    Pairs with an empty side are left out. Nothing else is dropped within a split.
    """
    seen: tuple[set[str], set[str]] = set(), set()
    kept = {}
    for split, pairs in splits.items():
        keyed = [(pair, tuple(map(bare, pair))) for pair in pairs]
        new = [
            (pair, key)
            for pair, key in keyed
            if all(key) and key[0] not in seen[0] and key[1] not in seen[1]
        ]
        for side in (0, 1):
            seen[side].update(key[side] for _, key in new)
        kept[split] = iter([pair for pair, _ in new])
    return kept
