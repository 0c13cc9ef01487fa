"""Short pairs and their columns, words for unknown ones, and the attention, by hand."""

import sys

import numpy as np
import pytest

from rnnjax.datasets import translation
from rnnjax.datasets.vocabulary import Vocabulary


def test_short_pairs_are_short_on_both_sides():
    found = translation.short_pairs("test", "jupyterlab", 6)
    loaded = zip(*translation.load("test"), strict=True)
    expected = [
        (translation.plain(s), translation.plain(t))
        for s, t in loaded
        if len(translation.tokenize(s)) <= 6 and len(translation.tokenize(t)) <= 6
    ]
    assert list(zip(found.texts, found.translations, strict=True)) == expected
    assert found.source_words == [translation.tokenize(text) for text in found.texts]
    assert found.target_words == [translation.tokenize(text) for text in found.translations]
    with pytest.raises(ValueError, match="0 words leave no pair of test; give a larger number"):
        translation.short_pairs("test", "jupyterlab", 0)


def test_columns_are_the_words_with_an_end_behind_the_target():
    words = Vocabulary(("<unknown>", "<end>", "a", "b"))
    pairs = translation.Pairs(["b c"], ["a b a"], [["b", "c"]], [["a", "b", "a"]])
    found = translation.columns([words, words], pairs, 6)
    assert found["inputs"].tolist() == [[3, 0, 0, 0, 0, 0]] and found["lengths"] == [2]
    assert found["targets"].tolist() == [[2, 3, 2, 1, 0, 0, 0]]
    assert found["target_lengths"] == [4]


def test_an_unknown_word_is_the_source_word_that_it_looks_at_most():
    words = Vocabulary(("<unknown>", "<end>", "ouvrir"))
    looks = np.array([[0.9, 0.1, 0], [0.2, 0.1, 0.7], [0.3, 0.6, 0.1], [1, 0, 0]])
    written = translation.words_of(words, np.array([2, 0, 0, 1]), looks, ["open", "zorglub"])
    assert written == ["ouvrir", "open", "zorglub"]  # the padding is no word


def test_the_table_of_attention_has_short_sentences_word_by_word():
    sources = [["a"] * 3, list("abcd"), list("efgh"), list("abcd")]
    written = [["x"], ["x", "$y"], [], ["z"]]
    weights = [np.random.default_rng(i).random((5, 7)) for i in range(4)]
    first, last = translation.attention_table(sources, written, weights)
    assert first["sentences"] == "a b c d\nx \\$y" and last["sentences"] == "a b c d\nz"
    assert first["word"].tolist() == [1] * 4 + [2] * 4
    assert first["source_word"].tolist() == [1, 2, 3, 4] * 2
    np.testing.assert_array_equal(first["weight"], weights[1][:2, :4].ravel())
    assert len(translation.attention_table(sources, written, weights, panels=1)) == 1
    (nothing,) = translation.attention_table([], [], [])
    assert nothing == {name: [] for name in ("sentences", "word", "source_word", "weight")}


def test_without_sacrebleu_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnjax\[text\]'"):
        translation.bleu_and_chrf()
