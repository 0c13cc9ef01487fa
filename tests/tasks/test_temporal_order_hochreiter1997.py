"""The temporal order task of 1997: read sequence by sequence, and beside a slow reference."""

import math

import numpy as np
import pytest
from task_batches import MANY, draw, evaluate

from rnnjax.tasks import TemporalOrderHochreiter1997

SYMBOLS = "XYabcdEB"
PAPER = {2: [(10, 20), (50, 60)], 3: [(10, 20), (33, 43), (66, 76)]}
CLASSES = {2: ["XX", "XY", "YX", "YY"], 3: ["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"]}


def texts(inputs):
    """Return each sequence as a string, with a blank at steps without a symbol."""
    assert set(np.unique(inputs)) <= {0, 1} and (inputs.sum(-1) <= 1).all()
    table = np.array([*SYMBOLS, " "])
    codes = np.where(inputs.any(-1), inputs.argmax(-1), 8)
    return ["".join(table[row]) for row in codes.T]


def reference(generator, length, symbols):
    """Return a sequence and its class, written symbol by symbol from the paper's text."""
    steps = int(generator.integers(length, length + length // 10 + 1))
    sequence = ["E", *generator.choice(list("abcd"), steps - 2), "B"]
    chosen = []
    for first, last in PAPER[symbols]:
        place = generator.integers(first * length // 100, last * length // 100 + 1)
        sequence[place] = str(generator.choice(["X", "Y"]))
        chosen.append(sequence[place])
    return "".join(sequence), "".join(chosen)


def assert_even(counts):
    """Counts of equally likely outcomes pass a chi-square bound, and none is zero."""
    counts = np.asarray(counts)
    freedom, expected = len(counts) - 1, counts.sum() / len(counts)
    assert counts.min() > 0
    assert ((counts - expected) ** 2 / expected).sum() <= freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(("length", "symbols"), [(100, 2), (100, 3), (10, 2), (17, 3)])
def test_sequences_are_as_defined(length, symbols):
    task = TemporalOrderHochreiter1997(length, symbols)
    inputs, targets, mask = draw(task)
    windows = [(first * length // 100, last * length // 100) for first, last in PAPER[symbols]]
    assert task.total_length == length + length // 10 and task.input_size == 8
    lengths, positions, classes, distractors = [], [], [], []
    for b, text in enumerate(texts(inputs)):
        sequence = text.rstrip()
        middle = sequence[1:-1]
        assert (sequence[0], sequence[-1]) == ("E", "B") and not set(middle) & set("EB ")
        places = [t for t, symbol in enumerate(sequence) if symbol in "XY"]
        assert len(places) == symbols
        asked = mask[:, b].nonzero()[0].tolist()
        assert asked == [len(sequence) - 1]
        answer = targets[asked[0], b]
        assert sorted(answer) == [0] * (2**symbols - 1) + [1]
        assert CLASSES[symbols][answer.argmax()] == "".join(sequence[t] for t in places)
        assert targets[:, b].sum() == 1
        lengths.append(len(sequence))
        positions.append(places)
        classes.append(answer.argmax())
        distractors += [symbol for symbol in middle if symbol in "abcd"]
    assert (min(lengths), max(lengths)) == (length, length + length // 10)
    assert_even(np.bincount(lengths)[length:])
    for (first, last), places in zip(windows, np.transpose(positions), strict=True):
        assert (places.min(), places.max()) == (first, last)
        assert_even(np.bincount(places)[first:])
    assert_even(np.bincount(classes))
    assert_even(np.unique(distractors, return_counts=True)[1])
    assert abs(np.corrcoef(np.transpose(positions)[:2])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.transpose(positions)[0], lengths)[0, 1]) < 0.05


@pytest.mark.parametrize("symbols", [2, 3])
def test_frequencies_are_those_of_a_slow_reference(symbols):
    """How often each symbol stands at each step, and given each class, within five errors."""
    inputs, targets, _ = draw(TemporalOrderHochreiter1997(100, symbols))
    generator = np.random.default_rng(1997)
    expected = np.zeros((2**symbols, 110, 8))
    for _ in range(MANY):
        sequence, chosen = reference(generator, 100, symbols)
        for t, symbol in enumerate(sequence):
            expected[CLASSES[symbols].index(chosen), t, SYMBOLS.index(symbol)] += 1
    found = np.einsum("tbd,bk->ktd", inputs, targets.sum(0))
    for ours, theirs in ((found, expected), (found.sum(0), expected.sum(0))):
        spread = np.sqrt(np.maximum(ours + theirs, 1))  # of the difference of two counts
        assert np.abs(ours - theirs).max() > 0
        assert (np.abs(ours - theirs) < 5 * spread).all()
        assert ((ours == 0) == (theirs == 0))[..., 6].all()  # E


def test_the_tolerance_decides_about_a_sequence():
    task = TemporalOrderHochreiter1997(41, 3)
    batch = draw(task)
    for error, right in ((0.29, True), (-0.29, True), (0.31, False), (-0.31, False)):
        outputs = batch.targets.copy()
        outputs[..., 2] += error  # one output of eight
        assert (evaluate(task, outputs, batch)["correct"] == right).all()
    assert task.success({"accuracy": np.float32(0.999), "loss": 1.0})
    assert not task.success({"accuracy": 2557 / 2560, "loss": 0.0})


def test_chance_by_simulation():
    for symbols, chance in ((2, 3 / 16), (3, 7 / 64)):
        task = TemporalOrderHochreiter1997(41, symbols)
        assert task.chance == chance
        targets = draw(task).targets.sum(0)
        share = 1 / 2**symbols
        assert np.square(targets - share).mean() == pytest.approx(chance, rel=1e-6)
        assert np.square(targets - targets.mean(0)).mean() == pytest.approx(chance, rel=1e-2)


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="length must be an integer of at least 10, got 9"):
        TemporalOrderHochreiter1997(9)
    with pytest.raises(ValueError, match="symbols must be 2 or 3, got 4"):
        TemporalOrderHochreiter1997(symbols=4)
