"""Sentence pairs against the package's other files; splits that share nothing; downloads."""

import gettext
import hashlib
import importlib.util
import io
import itertools
import re
import shutil
import string
import subprocess
import sys
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from rnnjax.datasets import translation
from rnnjax.datasets.translation import builder, detokenize, messages, plain, tokenize

SPLITS = "train", "validation", "test"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    translation.prepare(data_dir=directory)
    return directory


@pytest.fixture(scope="module")
def splits(data_dir):
    return {s: list(zip(*translation.load(s, data_dir=data_dir), strict=True)) for s in SPLITS}


@pytest.fixture(scope="module")
def catalogue():
    """Read the messages from the compiled files beside those that the builder reads."""
    import jupyterlab_language_pack_fr_FR as package

    pairs = set()
    for path in Path(package.__path__[0]).rglob("*.mo"):
        with open(path, "rb") as file:
            messages: Any = vars(gettext.GNUTranslations(file))["_catalog"]
        for key, text in messages.items():
            name, number = key if isinstance(key, tuple) else (key, 0)
            if name and not number:
                pairs.add((name.split("\x04")[-1], text))
    return pairs


def folded(text):
    """Return letters and digits, found in another way than the builder's."""
    text = re.sub("%[0-9]+", "", text.lower())
    without_accents = unicodedata.normalize("NFKD", text)
    kept = (c for c in without_accents if unicodedata.category(c)[0] in "LN")
    return "".join(kept)


# --- the user interface -----------------------------------------------------------------------


def test_pairs_are_those_of_the_package(splits, catalogue):
    pairs = set(itertools.chain(*splits.values()))
    assert len(pairs) > 2500 and pairs <= catalogue
    ours = {(folded(s), folded(t)) for s, t in pairs}
    assert {(folded(s), folded(t)) for s, t in catalogue if folded(s) and folded(t)} == ours
    assert len(ours) == len(pairs) == sum(map(len, splits.values()))  # none twice


def test_sizes_are_about_eight_to_one_to_one(splits):
    total = sum(map(len, splits.values()))
    assert [round(10 * len(splits[split]) / total) for split in SPLITS] == [8, 1, 1]


@pytest.mark.parametrize("side", [0, 1])
def test_no_sentence_is_in_two_splits_however_it_is_written(side, splits):
    seen = [{folded(pair[side]) for pair in splits[split]} for split in SPLITS]
    assert not any(a & b for a, b in itertools.combinations(seen, 2))


def test_chains_of_agreement_stay_together():
    words = itertools.product(string.ascii_lowercase, repeat=2)
    words = ["".join(w) for w in words]
    # a-A, b-A, b-B, c-B, ...: all one message, from pair to pair.
    chain = [(words[(i + 1) // 2], f"x{words[i // 2]}") for i in range(60)]
    alone = [(f"alone {word}", f"seul {word}") for word in words[:60]]
    found = {split: set(rows) for split, rows in messages.by_message(chain + alone).items()}
    assert sum(bool(rows & set(chain)) for rows in found.values()) == 1
    assert sum(bool(rows & set(alone)) for rows in found.values()) == 3
    again = messages.by_message(reversed(chain + alone))
    assert {split: set(rows) for split, rows in again.items()} == found


def test_what_is_alike_is_kept_once_and_what_says_nothing_is_left_out():
    pairs = [
        ("Open…", "Ouvrir"),
        ("OPEN %1", "Ouvrir..."),
        ("%1/%2", "%1 / %2"),
        ("Open", "Élargir"),
    ]
    found = itertools.chain(*messages.by_message(pairs).values())
    assert sorted(found) == [("Open", "Élargir"), ("Open…", "Ouvrir")]


def test_the_order_and_the_place_of_messages_are_pinned(splits):
    assert [pair[0] for pair in splits["test"][:2]] == ["Abort rebase", "Abort the rebase"]
    assert messages.SPLITS[messages.fold("openfile", 10)] == "train"


def test_what_is_missing_is_named(tmp_path, data_dir, monkeypatch):
    with pytest.raises(ValueError, match="source must be one of jupyterlab, tatoeba, ted; got 'x'"):
        translation.load("train", "x", data_dir)
    with pytest.raises(ValueError, match="split must be one of .*train.*; got 'dev'"):
        translation.load("dev", data_dir=data_dir)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[text\]'") as caught:
        translation.load("train", data_dir=tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_the_module_imports_nothing_heavy():
    code = (
        "import sys; from rnnjax.datasets import translation\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'grain', 'scipy', 'array_record'}\n"
        "print(sorted(heavy & {*sys.modules}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


# --- the collections on the network -----------------------------------------------------------


def downloads(folder, address):
    """Return what a builder says of the files in a folder."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {
        f"{address}/{name}": (len(data), hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    }


def test_tatoeba_is_two_files_side_by_side(served, tmp_path, monkeypatch):
    folder, address = served
    english = [f"I ate {i} apples." for i in range(40)] + ["Café\u2028time!", "i ate 3 apples"]
    french = [f"J'ai mangé {i} pommes." for i in range(40)] + ["L'heure", "J’ai mangé 3 pommes"]
    for name, lines in (("eng", english), ("fra", french)):
        (folder / f"tatoeba.fra-eng.{name}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    theirs = builder.TatoebaEnFr
    assert sorted(a.rpartition("/")[2] for a in theirs.DOWNLOADS) == sorted(
        path.name for path in folder.iterdir()
    )
    monkeypatch.setattr(theirs, "DOWNLOADS", downloads(folder, address))
    found = [translation.load(split, "tatoeba", tmp_path / "data") for split in SPLITS]
    pairs = [pair for split in found for pair in zip(*split, strict=True)]
    assert sorted(pairs) == sorted(list(zip(english, french, strict=True))[:41])
    shutil.rmtree(folder)  # prepared once: nothing is fetched again
    assert translation.load("train", "tatoeba", tmp_path / "data") == found[0]


TALKS = {
    "pt.train": ["olá .", "obrigado .", "um gato", "muito obrigado .", "", "só isto", "dois gatos"],
    "en.train": [
        "hello .",
        "thank you .",
        "a cat",
        "thank you !",
        "empty",
        "this only",
        "two cats",
    ],
    "pt.dev": ["um cão", "obrigado", "dois gatos ."],
    "en.dev": ["a dog", "thanks", "two cats ."],
    "pt.test": ["obrigado !", "obrigado !"],
    "en.test": ["thank you .", "thank you ."],
}


@pytest.fixture
def talks(served, monkeypatch):
    folder, address = served

    def pack(files):
        with tarfile.open(folder / "talks.tar.gz", "w:gz") as archive:
            for name, lines in files.items():
                data = "\n".join(lines).encode()
                member = tarfile.TarInfo(f"./datasets/pt_to_en/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
                other = tarfile.TarInfo(f"datasets/pt_to_en_/{name}")
                archive.addfile(other, io.BytesIO())
        monkeypatch.setattr(builder.TedPtEn, "DOWNLOADS", downloads(folder, address))

    return pack


def test_talks_keep_their_test_split_and_train_gives_way(talks, tmp_path):
    talks(TALKS)
    found = {s: list(zip(*translation.load(s, "ted", tmp_path), strict=True)) for s in SPLITS}
    assert found["test"] == [("obrigado !", "thank you .")] * 2
    assert found["validation"] == [("um cão", "a dog"), ("dois gatos .", "two cats .")]
    assert found["train"] == [("olá .", "hello ."), ("um gato", "a cat"), ("só isto", "this only")]


def test_an_archive_without_a_file_is_refused_and_leaves_nothing(talks, tmp_path):
    talks({name: lines for name, lines in TALKS.items() if name != "en.dev"})
    with pytest.raises(OSError, match=r"has no datasets/pt_to_en/en\.dev"):
        translation.load("train", "ted", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["downloads"]


def test_another_file_than_expected_is_refused(talks, tmp_path, monkeypatch):
    talks(TALKS)
    ((address, (size, _)),) = builder.TedPtEn.DOWNLOADS.items()
    monkeypatch.setattr(builder.TedPtEn, "DOWNLOADS", {address: (size, "0" * 64)})
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        translation.load("train", "ted", tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["downloads"]


# --- texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("L’extension n'a pas de %1.", ["l'", "extension", "n'", "a", "pas", "de", "%1", "."]),
        ("Don't go!", ["don'", "t", "go", "!"]),
        ("but it 's n't", ["but", "it", "'s", "n'", "t"]),
        ("Mots-clés  (2)...", ["mots-clés", "(", "2", ")", "…"]),
        ("the 'best'", ["the", "'", "best", "'"]),
        ("e\u0301te\u0301", ["été"]),
        (" \n", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


@pytest.mark.parametrize(
    "text", ["L'extension n'a pas de %1.", "Ouvrir (2 fichiers)…", "Qu'est-ce que c'est ?", ""]
)
def test_what_is_put_together_again_is_what_was_taken_apart(text):
    assert detokenize(tokenize(text)) == plain(text)


def test_tokens_come_back_the_same_from_every_sentence(splits):
    for text in itertools.chain(*itertools.chain(*splits.values())):
        tokens = tokenize(text)
        assert tokenize(detokenize(tokens)) == tokens or "'" in tokens
