"""Documents against their sources; splits that share nothing; streams and windows; a download."""

import difflib
import hashlib
import itertools
import platform
import shutil
import subprocess
import sys
from pydoc_data.topics import topics

import numpy as np
import pytest

from rnnjax.datasets import language
from rnnjax.datasets.language import builder, overlap
from rnnjax.datasets.vocabulary import Vocabulary

SPLITS = "train", "validation", "test"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    language.prepare(data_dir=directory)
    return directory


@pytest.fixture(scope="module")
def splits(data_dir):
    return {split: language.load(split, data_dir=data_dir) for split in SPLITS}


# --- Python's help topics ---------------------------------------------------------------------


def test_every_document_is_a_topic_in_one_split(splits):
    names = [name for texts in splits.values() for name in texts]
    assert len(names) == len(set(names)) > 40
    for texts in splits.values():
        assert texts == {name: topics[name] for name in texts}
    sizes = {split: sum(map(len, texts.values())) for split, texts in splits.items()}
    assert sum(sizes.values()) > 300_000
    assert all(sizes[split] > sum(sizes.values()) / 20 for split in ("validation", "test"))


def windows_of_characters(text, size=60):
    text = " ".join(text.split())
    return {text[i : i + size] for i in range(len(text) - size + 1)}


def test_held_out_topics_share_next_to_nothing_with_any_other_split(splits):
    seen = {
        split: set().union(*map(windows_of_characters, texts.values()))
        for split, texts in splits.items()
    }
    for one, other in itertools.permutations(SPLITS, 2):
        for name, text in splits[one].items():
            own = windows_of_characters(text)
            assert len(own & seen[other]) < 0.05 * len(own), (name, one, other)


def test_no_text_is_counted_twice_and_nothing_is_lost(splits):
    texts = {name: text for split in splits.values() for name, text in split.items()}
    assert "specialnames" in texts and "customization" not in texts  # a part of the other
    known = set().union(*map(windows_of_characters, texts.values()))
    for name in topics.keys() - texts.keys():
        own = windows_of_characters(topics[name])
        assert len(own & known) > 0.4 * len(own), name


def test_siblings_are_on_one_side(splits):
    (side,) = (split for split in SPLITS if "break" in splits[split])
    match = difflib.SequenceMatcher(None, topics["break"], topics["continue"], autojunk=False)
    assert match.find_longest_match().size > 100 and "continue" in splits[side]


def test_the_version_is_that_of_python(data_dir):
    version = platform.python_version().rstrip("+")
    assert language.prepare(data_dir=data_dir) == data_dir / "python_topics" / version
    assert f"Python {platform.python_version()} " in language.SOURCES["python_topics"].description


def test_shingles_are_runs_of_words():
    assert overlap.shingles("a b\n c d", 3) == {("a", "b", "c"), ("b", "c", "d")}
    assert overlap.shingles("a b", 3) == {("a", "b")}


def test_parts_are_left_out_and_what_is_alike_is_one_group():
    def numbered(start, stop):
        return " ".join(map(str, range(start, stop)))

    texts = {
        "part": numbered(10, 60),  # within "whole"
        "whole": numbered(0, 200),
        "alike": numbered(190, 300),  # shares 3 of its 103 shingles with "whole": not enough
        "tail": numbered(280, 380),  # shares 13 of its 93 with "alike"
        "bridge": numbered(370, 400) + " " + numbered(150, 165) + " x" * 30,
        "empty": "",
    }
    groups = overlap.unlike(texts)
    assert sorted(map(sorted, groups)) == [["alike", "bridge", "tail", "whole"], ["empty"]]
    assert sorted(map(sorted, overlap.unlike(dict(reversed(texts.items()))))) == sorted(
        map(sorted, groups)
    )
    assert next(iter(groups[0])) == "whole"  # the longest names the group


def test_a_python_without_topics_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match="pydoc_data.topics cannot be imported") as caught:
        language.load("train", data_dir=tmp_path)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_what_does_not_exist_is_named(data_dir):
    with pytest.raises(ValueError, match="source must be one of python_topics, tiny_.*; got 'x'"):
        language.load("train", "x", data_dir)
    with pytest.raises(ValueError, match="split must be one of .*train.*; got 'dev'"):
        language.load("dev", data_dir=data_dir)


def test_the_module_imports_nothing_heavy():
    code = (
        "import sys; from rnnjax.datasets import language\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'grain', 'scipy', 'array_record'}\n"
        "print(sorted(heavy & {*sys.modules}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


# --- tiny Shakespeare -------------------------------------------------------------------------


def test_shakespeare_is_split_in_order_as_in_tfds(served, tmp_path, monkeypatch):
    folder, address = served
    text = "".join(f"KING {i}:\nSpeak — no, çay!\n\n" for i in range(101))
    data = text.encode()
    (folder / "input.txt").write_bytes(data)
    facts = len(data), hashlib.sha256(data).hexdigest()
    theirs = builder.TinyShakespeare
    monkeypatch.setattr(theirs, "DOWNLOADS", {f"{address}/input.txt": facts})
    found = {split: language.load(split, "tiny_shakespeare", tmp_path / "d") for split in SPLITS}
    first = int(len(text) * 0.9)  # as in tensorflow_datasets, tiny_shakespeare_dataset_builder.py
    rest = text[first:]
    middle = int(len(rest) * 0.5)
    expected = {"train": text[:first], "validation": rest[:middle], "test": rest[middle:]}
    assert found == {split: {split: part} for split, part in expected.items()}
    shutil.rmtree(folder)  # prepared once: nothing is fetched again
    assert language.load("test", "tiny_shakespeare", tmp_path / "d") == found["test"]


def test_another_file_than_expected_is_refused_and_nothing_is_left(served, tmp_path, monkeypatch):
    folder, address = served
    (folder / "input.txt").write_text("not Shakespeare")
    theirs = builder.TinyShakespeare
    monkeypatch.setattr(theirs, "DOWNLOADS", {f"{address}/input.txt": (15, "0" * 64)})
    with pytest.raises(OSError, match="tiny_shakespeare could not be .* wrong checksum$") as caught:
        language.load("train", "tiny_shakespeare", tmp_path / "d")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "d" / "tiny_shakespeare").exists()


def test_address_and_checksum_are_those_of_tfds():
    from importlib.util import find_spec
    from pathlib import Path

    (place,) = find_spec("tensorflow_datasets").submodule_search_locations  # pyright: ignore
    line = Path(place, "datasets", "tiny_shakespeare", "checksums.tsv").read_text().split()
    (address,) = builder.TinyShakespeare.DOWNLOADS
    size, checksum = builder.TinyShakespeare.DOWNLOADS[address]
    assert line[:3] == [address, str(size), checksum]


# --- streams and windows ----------------------------------------------------------------------


def test_a_stream_has_an_end_before_between_and_after_the_texts():
    vocabulary = Vocabulary.fit(["aab", "b"])
    tokens = language.stream(["ab?", "", "b"], vocabulary)
    assert tokens.dtype == np.int32
    assert [vocabulary.tokens[t] for t in tokens] == [
        *("<end>", "a", "b", "<unknown>", "<end>", "<end>", "b", "<end>")
    ]
    assert language.stream([], vocabulary).tolist() == [1]


def test_an_epoch_starts_a_window_at_every_place_once():
    tokens = np.arange(100, 130, dtype=np.int32)
    batches = language.windows(tokens, 5, 5, seed=3)
    rows = np.concatenate([next(batches)["tokens"] for _ in range(5)])  # 25 places: an epoch
    assert rows.dtype == np.int32 and sorted(rows[:, 0]) == list(range(100, 125))
    np.testing.assert_array_equal(rows - rows[:, :1], np.tile(np.arange(6), (25, 1)))
    assert rows[:, 0].tolist() != sorted(rows[:, 0])


def test_windows_go_on_from_a_saved_state():
    tokens = np.arange(30, dtype=np.int32)
    batches = language.windows(tokens, 5, 4, seed=0)
    next(batches)
    state = batches.get_state()
    expected = [next(batches)["tokens"] for _ in range(9)]
    again = language.windows(tokens, 5, 4, seed=0)
    again.set_state(state)
    np.testing.assert_array_equal([next(again)["tokens"] for _ in range(9)], expected)


@pytest.mark.parametrize("length", [0, 30, 31])
def test_a_stream_that_is_too_short_is_refused(length):
    with pytest.raises(ValueError, match=f"length must be between 1 and 29.*got {length}"):
        language.windows(np.zeros(30, np.int32), length, 1, seed=0)


def test_spread_windows_begin_at_the_first_token_and_end_with_the_last():
    tokens = np.arange(50, 70, dtype=np.int32)
    found = language.spread_windows(tokens, 4, 3)
    assert found[:, 0].tolist() == [50, 57, 65] and found[-1, -1] == 69
    np.testing.assert_array_equal(found - found[:, :1], np.tile(np.arange(5), (3, 1)))


def test_whole_documents_are_padded_to_windows():
    vocabulary = Vocabulary.fit(["abc abc aab"])
    found = language.whole_documents(["abcab", "", "c?"], vocabulary, 4)
    assert found["tokens"].shape == (3, 9) and found["lengths"].tolist() == [5, 0, 2]
    assert found["tokens"][0, :6].tolist() == [1, *vocabulary.encode("abcab")]
    assert not found["tokens"][1, 1:].any() and not found["tokens"][0, 6:].any()


def test_bits_per_character_are_those_of_the_definition_for_one_character():
    """Unigrams by hand: (count + types / size) / (total + types), over the training characters."""
    vocabulary = Vocabulary.fit(["aab"])
    found = language.bits_per_character(["aab", "b"], ["ab?", "b"], vocabulary, 3)
    assert list(found) == ["1", "2", "3"]
    p = {"a": (2 + 2 / 4) / 6, "b": (2 + 2 / 4) / 6, "?": (2 / 4) / 6}
    assert found["1"] == pytest.approx(-sum(np.log2(p[c]) for c in "ab?b") / 4)
