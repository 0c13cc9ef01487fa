"""Distances between spectrograms in cases known by hand."""

import numpy as np
import pytest

from rnnjax.datasets.speech.spectrograms import (
    distance,
    mean_distances,
    mean_frames,
    nearest,
    recognised,
    spectrogram_table,
    stretched,
    unaligned_distance,
)

pytestmark = pytest.mark.slow


def noise(length, seed=0):
    return np.random.default_rng(seed).normal(-40, 10, (length, 40)).astype(np.float32)


def test_distance_forgives_another_pace_but_no_other_sound():
    frames = noise(7)
    assert distance(frames, frames) == 0
    assert distance(frames, np.repeat(frames, 3, axis=0)) == 0
    assert distance(frames, frames[::-1]) > 1
    flat = np.full((5, 40), -20.0)
    assert distance(flat, flat + 3) == pytest.approx(3)


def test_unaligned_distance_counts_what_is_missing_as_silence():
    long, short = np.full((4, 40), -20.0), np.full((3, 40), -23.0)
    assert unaligned_distance(long, short, -80.0) == pytest.approx((3 * 3 + 60) / 4)


def test_stretched_is_linear_in_between():
    ramp = np.arange(5.0)[:, None]
    np.testing.assert_allclose(stretched(ramp, 9)[:, 0], np.arange(9) / 2)
    np.testing.assert_allclose(stretched(ramp, 3)[:, 0], [0, 2, 4])


def test_the_nearest_spectrogram_is_found_at_any_pace_and_loudness():
    frames = [noise(12, seed) for seed in range(3)]
    others = [np.repeat(frames[i], 2, axis=0) - 7 for i in (2, 0, 1)]
    assert nearest(others, frames).tolist() == [2, 0, 1]


def test_the_mean_has_the_mean_length():
    found = mean_frames([np.full((4, 2), -20.0), np.full((8, 2), -40.0)])
    np.testing.assert_allclose(found, np.full((6, 2), -30.0))


def test_distances_are_means_over_pairs():
    flat = [np.full((4, 40), -20.0), np.full((6, 40), -30.0)]
    others = [flat[0] + 1, flat[1][:4] - 3]
    found = mean_distances(others, flat, -80.0)
    assert found["aligned"] == pytest.approx(2) and found["length"] == 1
    unaligned = [unaligned_distance(*pair, -80.0) for pair in zip(others, flat, strict=True)]
    assert found["unaligned"] == pytest.approx(np.mean(unaligned))


def test_a_spectrogram_is_recognised_by_the_name_of_the_nearest():
    frames = [noise(12, seed) for seed in range(3)]
    others = [np.repeat(frames[i], 2, axis=0) - 7 for i in (2, 0, 1)]
    names = ["a", "b", "b"]
    assert recognised(others, ["b", "a", "a"], known=frames, names=names) == pytest.approx(2 / 3)


def test_a_table_has_a_row_for_each_frame_and_band():
    frames = noise(3)[:, :2]
    (part,) = spectrogram_table({"seven": frames})
    assert part["panel"] == "seven" and part["frame"].tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(frames[part["frame"], part["band"]], part["decibel"])
