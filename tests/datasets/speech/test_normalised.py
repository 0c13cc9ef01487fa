"""Frames without the voice's mean, their deviation, and labels, by hand."""

import numpy as np
import pytest

from rnnjax.datasets.speech import Recording
from rnnjax.datasets.speech.audio import LogMel
from rnnjax.datasets.speech.normalised import centred_frames, columns, fit_deviation

pytestmark = pytest.mark.slow
MEL = LogMel()


def recording(digits, length, seed):
    samples = np.random.default_rng(seed).normal(0, 3000, length).astype(np.int16)
    return Recording(samples, digits, "a")


def test_a_louder_voice_has_the_same_frames():
    quiet = recording("1", 4000, 0).samples // 4
    frames = centred_frames(quiet, MEL)
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(centred_frames(quiet * 4, MEL), frames, atol=1e-3)
    assert centred_frames(quiet[:0], MEL).shape == (0, 40)


def test_columns_are_frames_over_the_deviation_and_labels_from_one():
    recordings = [recording("40", 4000, 0), recording("7", 1600, 1)]
    deviation = fit_deviation(recordings, MEL)
    both = [centred_frames(r.samples, MEL) for r in recordings]
    np.testing.assert_allclose(deviation, np.concatenate(both).std(0), rtol=1e-5)
    found = columns(recordings, MEL, deviation)
    assert found["lengths"].tolist() == [26, 11] and found["inputs"].shape == (2, 26, 40)
    np.testing.assert_allclose(found["inputs"][1, :11], both[1] / deviation, rtol=1e-5)
    assert found["labels"].tolist() == [[5, 1], [8, 0]]
    assert found["label_lengths"].tolist() == [2, 1]
