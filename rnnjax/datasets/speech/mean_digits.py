"""Baselines of speech synthesis: mean spectrograms of the training recordings."""

from collections.abc import Sequence

import numpy as np

from rnnjax.datasets.speech.loader import Recording
from rnnjax.datasets.speech.spectrograms import Frames, mean_frames


def mean_digits(
    train: Sequence[Recording],
    frames: Sequence[Frames],
    wanted: Sequence[Recording],
    floor: float,
) -> dict[str, list[Frames]]:
    """Return a spectrogram in dB for each wanted recording, by baseline.

    mean of the digit                       over the training voices at the same speed
    mean of the digit, moved to the voice   that mean, shifted in each band by the voice's mean
                                            deviation from such means
    mean of everything                      over all training recordings

    Args:
        train: the training recordings, of one digit each.
        frames: their spectrograms.
        wanted: recordings whose digit, voice and speed occur in training, but not together.
        floor: the lowest value of a spectrogram.
    """
    pairs = list(zip(train, frames, strict=True))
    keys = dict.fromkeys((r.digits, r.speed) for r in [*train, *wanted])
    means = {key: mean_frames([f for r, f in pairs if (r.digits, r.speed) == key]) for key in keys}
    moves = {
        voice: np.mean(
            [f.mean(0) - means[r.digits, r.speed].mean(0) for r, f in pairs if r.speaker == voice],
            axis=0,
        )
        for voice in {r.speaker for r in wanted}
    }
    everything = mean_frames(frames)
    return {
        "mean of the digit": [means[r.digits, r.speed] for r in wanted],
        "mean of the digit, moved to the voice": [
            np.maximum(means[r.digits, r.speed] + moves[r.speaker], floor) for r in wanted
        ],
        "mean of everything": [everything for _ in wanted],
    }
