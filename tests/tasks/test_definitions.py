"""Each task is as its paper defines it, and so is its chance level."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_batches import MANY, SMALLEST, USUAL, draw, evaluate, every_task, fixed

from rnnjax.tasks import (
    AddingArjovsky2016,
    AddingHochreiter1997,
    CopyMemory,
    TemporalOrder,
)


def assert_uniform(samples, low, high):
    """All of low .. high - 1 occur, nothing else does, and the counts pass a chi-square bound."""
    counts = np.bincount(np.asarray(samples) - low, minlength=high - low)
    assert len(counts) == high - low, "a sample lies outside the window"
    assert counts.min() > 0, "the window's ends are not reached"
    expected = len(samples) / (high - low)
    freedom = high - low - 1
    assert ((counts - expected) ** 2 / expected).sum() <= freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("length", [2, 45])
def test_adding_arjovsky2016_is_as_defined(length):
    inputs, targets, mask = draw(AddingArjovsky2016(length))
    value, marker = inputs[..., 0].astype(np.float64), inputs[..., 1]
    assert np.isin(marker, [0, 1]).all()
    assert (marker.sum(0) == 2).all()
    first, second = np.argwhere(marker.T)[:, 1].reshape(-1, 2).T
    assert_uniform(first, 0, length // 2)
    assert_uniform(second, length // 2, length)
    assert_uniform((value * 10).astype(int).ravel(), 0, 10)
    assert value.max() < 1
    np.testing.assert_array_equal(mask.argmax(0), length - 1)
    assert (mask.sum(0) == 1).all()
    each = np.arange(MANY)
    expected = value[first, each] + value[second, each]
    np.testing.assert_allclose(targets[-1, :, 0], expected, atol=1e-6)
    if length > 3:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
        assert abs(np.corrcoef(value[first, each], value[second, each])[0, 1]) < 0.05


@pytest.mark.parametrize("length", [10, 41, 100])
def test_adding_hochreiter1997_is_as_defined(length):
    task = AddingHochreiter1997(length)
    inputs, targets, mask = draw(task)
    value, marker = inputs[..., 0].astype(np.float64), inputs[..., 1]
    assert task.total_length == math.floor(Fraction(11, 10) * length)
    assert (mask.sum(0) == 1).all()
    last, each, step = mask.argmax(0), np.arange(MANY), np.arange(task.total_length)
    assert_uniform(last + 1, length, task.total_length + 1)

    inside = step[:, None] <= last
    assert not inputs[~inside].any()
    assert_uniform(np.floor(value[inside] * 10).astype(int), -10, 10)
    assert (marker[0] == -1).all()
    assert (marker[last, each] == -1).all()
    assert ((marker == -1).sum(0) == 2).all()
    assert np.isin(marker, [-1, 0, 1]).all()
    expected = 0.5 + (value * (marker == 1)).sum(0) / 4
    np.testing.assert_allclose(targets[last, each, 0], expected, atol=1e-6)

    seen = (marker == 1).sum(0)
    lost = 1 / 10 + 9 / 10 / (length // 2 - 1) + (length == 10) / 20
    assert set(np.unique(seen)) <= ({0, 1, 2} if length == 10 else {1, 2})
    assert abs((2 - seen).mean() - lost) < 4 * math.sqrt(lost / MANY)
    assert marker[max(10, length // 2) :].max() <= 0  # no mark beyond the two windows
    if length == 100:  # the marks' joint law, from the pairs that kept both marks
        pairs = np.argwhere(marker[:, seen == 2].T == 1)[:, 1].reshape(-1, 2)
        late = pairs[pairs[:, 1] >= 10]  # here the earlier mark is surely the first
        assert_uniform(late[:, 0], 1, 10)
        assert_uniform(late[:, 1], 10, length // 2)
        both_early = len(pairs) - len(late)  # 9/10 first not at 0, then 8 of 49
        assert abs(both_early / MANY - 0.9 * 8 / 49) < 0.015


@pytest.mark.parametrize("task", [SMALLEST[2], USUAL[2]], ids=repr)
def test_copy_memory_is_as_defined(task):
    inputs, targets, mask = draw(task)
    wait, symbols, memorise = task.length, task.symbols, task.memorise
    assert len(inputs) == wait + 2 * memorise
    assert mask.all()
    assert set(np.unique(inputs)) == {0, 1}
    assert (inputs.sum(-1) == 1).all()
    read = inputs.argmax(-1)
    assert (read[memorise : memorise + wait - 1] == symbols).all()
    assert (read[memorise + wait - 1] == symbols + 1).all()
    assert (read[memorise + wait :] == symbols).all()
    assert (targets[: memorise + wait] == symbols).all()
    np.testing.assert_array_equal(targets[memorise + wait :], read[:memorise])
    for position in range(memorise):
        assert_uniform(read[position], 0, symbols)
    if memorise > 1:
        assert_uniform(read[0] * symbols + read[1], 0, symbols**2)


@pytest.mark.parametrize("length", [10, 45])
@pytest.mark.parametrize("symbols", [2, 3])
def test_temporal_order_is_as_defined(length, symbols):
    inputs, targets, mask = draw(TemporalOrder(length, symbols))
    shares = {2: (0.1, 0.5), 3: (0.1, 0.3, 0.6)}[symbols]
    assert set(np.unique(inputs)) == {0, 1}
    assert (inputs.sum(-1) == 1).all()
    assert mask[-1].all()
    assert not mask[:-1].any()

    read = inputs.argmax(-1)
    assert ((read < 2).sum(0) == symbols).all()
    positions = np.argwhere(read.T < 2)[:, 1].reshape(-1, symbols).T
    for share, position in zip(shares, positions, strict=True):
        start = math.floor(share * length + 1e-9)
        assert_uniform(position, start, start + math.floor(length / 10))
    label = np.zeros(MANY, int)
    for position in positions:
        label = 2 * label + read[position, np.arange(MANY)]
    np.testing.assert_array_equal(targets[-1], label)
    assert_uniform(label, 0, 2**symbols)
    assert_uniform(read[read >= 2], 2, 6)


@every_task
def test_chance_is_the_loss_of_the_best_fixed_answer(task):
    batch = draw(task)
    found = evaluate(task, fixed(task, batch), batch)
    error = 5 * found["example_losses"].std() / math.sqrt(MANY)
    assert abs(found["loss"] - task.chance) < error + 2e-3 * task.chance
    assert not task.success(found["metrics"])


def test_published_chance_levels():
    assert AddingArjovsky2016(750).chance == pytest.approx(1 / 6, abs=1e-15)
    copies = [CopyMemory(length).chance for length in (100, 200, 300, 500)]
    assert copies == pytest.approx([0.1733, 0.0945, 0.0650, 0.0400], abs=5e-5)
    assert TemporalOrder(50).chance == math.log(4)
    assert TemporalOrder(50, symbols=3).chance == pytest.approx(math.log(8))
    assert AddingHochreiter1997(10**6).chance == pytest.approx(1.9 / 48, rel=1e-5)


@given(st.integers(10, 60))
def test_adding_hochreiter1997_chance_by_enumeration(length):
    """Walk through every sequence length and every pair of marks, with exact weights."""
    variance = Fraction(0)
    total_lengths = range(length, length + length // 10 + 1)
    for total_length in total_lengths:
        for first in range(10):
            unmarked = [step for step in range(total_length) if step != first]
            for second in unmarked[: length // 2 - 1]:
                kept = {first, second} - {0, total_length - 1}
                weight = Fraction(1, len(total_lengths) * 10 * (length // 2 - 1))
                variance += weight * len(kept) * Fraction(1, 3) / 16
    assert AddingHochreiter1997(length).chance == pytest.approx(float(variance), rel=1e-12)


def test_adding_hochreiter1997_chance_is_not_one_in_24():
    task = AddingHochreiter1997(100)
    targets = np.concatenate([draw(task, seed=s).targets.sum(0)[:, 0] for s in range(4)])
    error = 4 * np.square(targets - 0.5).std() / math.sqrt(len(targets))
    assert abs(targets.mean() - 0.5) < 0.01
    assert abs(targets.var() - task.chance) < error < (1 / 24 - task.chance) / 1.5
