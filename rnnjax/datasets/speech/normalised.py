"""Recordings as a recogniser reads them: log-mel frames without the voice's mean, and labels.

Axis letters: N recordings, T frames, M mel bands, U digits.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int16

from rnnjax.datasets import batches
from rnnjax.datasets.speech.audio import LogMel
from rnnjax.datasets.speech.loader import Recording


def centred_frames(samples: Int16[np.ndarray, " _"], mel: LogMel) -> Float32[np.ndarray, "T M"]:
    """Return the log-mel frames of samples minus their mean, which depends on the voice.

    Source: Atal 1974, "Effectiveness of linear prediction characteristics of the speech wave for
    automatic speaker identification and verification".
    """
    frames = mel.frames(samples)
    return frames - frames.mean(axis=0) if len(frames) else frames


def fit_deviation(recordings: Sequence[Recording], mel: LogMel) -> Float32[np.ndarray, " M"]:
    """Return the standard deviation of each band of `centred_frames` over recordings."""
    frames = np.concatenate([centred_frames(r.samples, mel) for r in recordings])
    return frames.std(axis=0).astype(np.float32)


def columns(
    recordings: Sequence[Recording], mel: LogMel, deviation: Float32[np.ndarray, " M"]
) -> dict[str, np.ndarray]:
    """Return padded `inputs [N, T, M]` and `labels [N, U]`, `lengths` and `label_lengths [N]`.

    The inputs are `centred_frames` over the deviation; the label of digit d is d + 1.
    """
    inputs, lengths = batches.pad([centred_frames(r.samples, mel) / deviation for r in recordings])
    labels = [np.array([int(digit) + 1 for digit in r.digits], np.int32) for r in recordings]
    labels, label_lengths = batches.pad(labels)
    found = {"inputs": inputs, "lengths": lengths}
    return {**found, "labels": labels, "label_lengths": label_lengths}
