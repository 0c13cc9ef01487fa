"""Transcripts: edit distances by their definition, error rates and the best constant by hand."""

import functools

from rnnjax.datasets.speech.transcripts import (
    best_constant,
    edit_distance,
    error_rate,
    error_rates,
    written,
)


@functools.cache
def levenshtein(one, other):
    """Return the edit distance by its definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        levenshtein(one[1:], other) + 1,
        levenshtein(one, other[1:]) + 1,
        levenshtein(one[1:], other[1:]) + (one[0] != other[0]),
    )


def test_edit_distance_is_levenshteins():
    words = ["", "1", "11", "12", "21", "407", "4071", "1704", "70", "123454321"]
    for one in words:
        for other in words:
            assert edit_distance(one, other) == levenshtein(one, other)


def test_error_rate_counts_digits_not_strings():
    # one substitution, one deletion, two insertions, over 3 + 1 + 2 digits
    assert error_rate(["417", "", "1221"], ["407", "3", "12"]) == 4 / 6


def test_best_constant_is_the_one_with_the_fewest_errors():
    assert best_constant(["7", "17", "7777", "2"]) == "7"
    assert best_constant(["12", "12", "3"]) == "12"


def test_error_rates_are_of_each_group_over_all_networks():
    answers = [["1", "23", "4"], ["1", "2", ""]]
    found = error_rates(answers, ["1", "23", "5"], ["b", "a", "b"])
    assert list(found) == ["a", "b"]
    assert found == {"a": 1 / 4, "b": 2 / 4}


def test_labels_are_written_without_blanks():
    assert written([5, 1, 0, 8, 0]) == "407" and written([0, 0]) == ""
