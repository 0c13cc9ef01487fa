"""Spectrograms as targets and back, contexts and the clock, in cases known by hand."""

import numpy as np
import pytest

from rnnjax.datasets.speech import Recording
from rnnjax.datasets.speech.coding import MEL, Coding, clock
from rnnjax.datasets.speech.mean_digits import mean_digits

CODING = Coding([-30.0] * 40, [10.0] * 40, ["a", "b"], length=9)


def noise(length, seed=0):
    return np.random.default_rng(seed).normal(-40, 10, (length, 40)).astype(np.float32)


def recording(digits, voice, speed):
    return Recording(np.zeros(0, np.int16), digits, voice, "", speed)


def test_targets_are_frames_and_how_much_is_said():
    frames = noise(8)
    targets = CODING.targets(frames)
    np.testing.assert_allclose(targets[:, :-1], (frames + 30) / 10, rtol=1e-5)
    np.testing.assert_allclose(targets[:, -1], [-3, -2, -1, 0, 1, 2, 3, 4])
    behind = np.repeat(targets[-1:], 3, axis=0)
    np.testing.assert_allclose(CODING.frames(np.append(targets, behind, axis=0)), frames, rtol=1e-4)


def test_what_never_ends_is_cut_where_it_comes_nearest_and_nothing_is_below_the_floor():
    outputs = np.full((6, 41), -9.0)
    outputs[:, -1] = [-3, -1, 2, 3, 2, 1]
    np.testing.assert_array_equal(CODING.frames(outputs), np.full((4, 40), -80))


def test_contexts_say_digit_voice_and_speed():
    found = CODING.contexts("30", ["b", "a"], [190, 160])
    expected = np.zeros((2, 13))
    expected[0, [3, 11, 12]] = expected[1, [0, 10]] = 1
    np.testing.assert_array_equal(found, expected)
    assert CODING.width == 13


def test_columns_are_padded():
    said = [recording("3", "b", 190), recording("0", "a", 160)]
    found = CODING.columns(said, [noise(5), noise(3)])
    assert found["targets"].shape == (2, 5, 41) and found["lengths"].tolist() == [5, 3]
    np.testing.assert_array_equal(found["targets"][1, :3], CODING.targets(noise(3)))
    np.testing.assert_array_equal(found["contexts"], CODING.contexts("30", ["b", "a"], [190, 160]))


def test_the_clock_turns_once_a_second():
    seconds = np.arange(70) * MEL.hop / MEL.rate
    found = clock(2, 70)
    assert found.shape == (2, 70, 3)
    np.testing.assert_allclose(found[1, :, 0], seconds, rtol=1e-6)
    np.testing.assert_allclose(found[0, :, 1], np.sin(2 * np.pi * seconds), atol=1e-5)
    np.testing.assert_allclose(found[0, :, 2], np.cos(2 * np.pi * seconds), atol=1e-5)


@pytest.mark.slow
def test_the_coding_is_fitted_on_frames():
    samples = [np.random.default_rng(i).normal(0, 999, 900 * i).astype(np.int16) for i in (1, 2)]
    said = [Recording(own, "1", name) for own, name in zip(samples, "ba", strict=True)]
    found, frames = Coding.fit(said), [MEL.frames(own) for own in samples]
    np.testing.assert_allclose(found.mean, np.concatenate(frames).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.deviation, np.concatenate(frames).std(0), rtol=1e-5)
    assert found.voices == ["a", "b"] and found.length == len(frames[1])


def test_baselines_know_the_digit_the_speed_and_the_voice():
    def level(decibel, length):
        return np.full((length, 40), float(decibel))

    train = [recording("1", "a", 160), recording("1", "b", 160), recording("2", "a", 160)]
    frames = [level(-20, 4), level(-40, 8), level(-50, 2)]
    found = mean_digits(train, frames, [recording("2", "a", 160)], -80.0)
    (mean,), (moved,), (everything,) = found.values()
    np.testing.assert_allclose(mean, level(-50, 2))
    np.testing.assert_allclose(moved, level(-45, 2))  # a is 10 louder than "1", 0 than "2"
    np.testing.assert_allclose(everything, level(-110 / 3, 5))
    (floored,) = mean_digits(train, frames, train[1:2], -35.0)[
        "mean of the digit, moved to the voice"
    ]
    np.testing.assert_allclose(floored, level(-35, 6))
    np.testing.assert_allclose(
        mean_digits(train, frames, train[:1], -80.0)["mean of the digit"][0], level(-30, 6)
    )
