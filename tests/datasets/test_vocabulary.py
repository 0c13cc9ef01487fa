"""Vocabularies and words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.datasets.vocabulary import Vocabulary, words


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
        with pytest.raises(ValueError, match="leave no token"):
            Vocabulary.fit(["abca"], **arguments)


def test_sequences_are_encoded_into_one_array_and_cut():
    vocabulary = Vocabulary(("<unknown>", "<end>", "a", "b"))
    tokens, lengths = vocabulary.encode_all(["ab", "", "xaba"])
    assert tokens.tolist() == [[2, 3, 0, 0], [0, 0, 0, 0], [0, 2, 3, 2]]
    assert lengths.tolist() == [2, 0, 4]
    tokens, lengths = vocabulary.encode_all(["ab", "xaba"], 3, ending=True)
    assert tokens.tolist() == [[2, 3, 1], [0, 2, 3]] and lengths.tolist() == [3, 3]


@given(st.text())
def test_words_lose_nothing_but_space_and_case(text):
    assert "".join(words(text)) == "".join(text.lower().split())


def test_words_keep_what_belongs_together():
    assert words("Don't go!  2 l’été") == ["don't", "go", "!", "2", "l’été"]
