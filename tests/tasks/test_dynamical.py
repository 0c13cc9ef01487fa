"""The flip-flop and the sine generator, whose networks are taken apart for their dynamics."""

import functools
import math

import jax
import numpy as np
import pytest

from rnnjax.tasks import NBitFlipFlop, SineGeneration

MANY = 2048
FLIP_FLOPS = [NBitFlipFlop(7, bits=3, probability=0.3), NBitFlipFlop(5, bits=1, probability=1)]


@functools.cache
def draw(task):
    sample = jax.jit(task.sample, static_argnums=1)
    return jax.tree.map(np.asarray, sample(jax.random.key(11), MANY))


@pytest.mark.parametrize("task", FLIP_FLOPS, ids=repr)
def test_flip_flops_hold_the_last_pulse(task):
    inputs, targets, mask = draw(task)
    assert inputs.shape == targets.shape == (task.length, MANY, task.bits)
    assert inputs.dtype == targets.dtype == np.float32
    assert mask.all() and mask.shape == (task.length, MANY)
    assert set(np.unique(inputs)) == ({-1, 0, 1} if task.probability < 1 else {-1, 1})
    for b in range(100):
        for channel in range(task.bits):
            state = None
            for x, y in zip(inputs[:, b, channel], targets[:, b, channel], strict=True):
                state = x if x else state
                assert y == state
    assert inputs[0].all()
    later = inputs[1:]
    assert abs((later != 0).mean() - task.probability) < 4.5 * 0.5 / math.sqrt(later.size)
    assert abs(inputs.sum() / (inputs != 0).sum()) < 4.5 / math.sqrt((inputs != 0).sum())


def test_flip_flops_are_judged_by_every_step():
    task = FLIP_FLOPS[0]
    batch = draw(task)
    metrics = jax.jit(lambda outputs, batch: task.metrics(outputs, batch))
    right = metrics(0.6 * batch.targets, batch)
    assert right["loss"] == pytest.approx(0.16) and task.success(right)
    shuffled = metrics(batch.targets[:, ::-1], batch)
    assert shuffled["loss"] > task.chance and not task.success(shuffled)
    nothing = metrics(0 * batch.targets, batch)
    assert nothing["loss"] == task.chance == 1 and not task.success(nothing)
    once = batch.targets.copy()
    once[3, 0] = 0
    assert metrics(once, batch)["accuracy"] == pytest.approx(1 - 1 / MANY)


def test_a_static_input_sets_the_frequency_of_the_sine():
    task = SineGeneration(41, frequencies=5, low=0.2, high=1.0)
    inputs, targets, mask = draw(task)
    assert inputs.shape == targets.shape == (41, MANY, 1) and mask.all()
    assert inputs.dtype == targets.dtype == np.float32
    assert (inputs == inputs[0]).all()
    index = np.rint((inputs[0, :, 0] - 0.25) * 5).astype(int)
    counts = np.bincount(index, minlength=6)[1:]
    assert counts.sum() == MANY and (abs(counts - MANY / 5) < 4.5 * math.sqrt(MANY * 0.16)).all()
    omega = 0.2 + 0.2 * (index - 1)
    for t in range(41):
        np.testing.assert_allclose(targets[t, :, 0], np.sin(omega * t), atol=2e-6)
    best = np.square(targets - targets.mean(1, keepdims=True)).mean()
    assert task.chance == pytest.approx(best, rel=0.02)


def test_the_sine_generator_of_the_paper_has_51_frequencies():
    task = SineGeneration()
    assert task.sines.shape == (51, 100) and not task.success({"loss": task.chance})
    assert task.success({"loss": 0.009 * task.chance})
    squares = [
        [math.sin((0.1 + 0.01 * j) * t) for j in range(51)] for t in range(100)
    ]  # fmt: skip
    variances = [np.var(row) for row in squares]
    assert task.chance == pytest.approx(np.mean(variances))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NBitFlipFlop(0), "length must be an integer of at least 1, got 0"),
        (lambda: NBitFlipFlop(bits=0), "bits must be an integer of at least 1, got 0"),
        (lambda: NBitFlipFlop(probability=0), r"probability must lie in \(0, 1\], got 0"),
        (lambda: SineGeneration(1), "length must be an integer of at least 2, got 1"),
        (lambda: SineGeneration(frequencies=1), "frequencies must be an integer of at least 2"),
        (lambda: SineGeneration(low=0.7), "low and high must satisfy 0 < low < high <= pi, got"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
