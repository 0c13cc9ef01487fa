"""Batches, padding, and orders that are the same for ever."""

import json

import numpy as np
import pytest

from rnnjax.datasets import batches


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


def test_valid_is_where_padded_rows_have_entries():
    rows, lengths = batches.pad([[1, 2], [], [3, 4, 5]], 2)
    assert batches.valid(lengths, 3).tolist() == [
        [True, True, False],
        [False, False, False],
        [True, True, False],
    ]
    assert (rows[batches.valid(lengths, 2)] > 0).all()
