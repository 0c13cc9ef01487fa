"""Comparing spectrograms of different lengths: distances, means, nearest neighbours.

Axis letters: T frames of one spectrogram, M mel bands. All values are in dB.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Frames = Float[np.ndarray, "_ M"]


def distance(frames: Frames, others: Frames) -> float | np.floating:
    """Return the mean absolute difference of two spectrograms along their best alignment, in dB.

    Source of the alignment: Sakoe, Chiba 1978, "Dynamic programming algorithm optimization for
    spoken word recognition".
    """
    import librosa

    apart = np.abs(frames[:, None] - others).mean(-1).astype(np.float64)
    _, path = librosa.sequence.dtw(C=apart)
    return apart[path[:, 0], path[:, 1]].mean()


def unaligned_distance(frames: Frames, others: Frames, floor: float) -> float | np.floating:
    """Return the mean absolute difference frame by frame in dB; `floor` pads the shorter one."""
    length = max(len(frames), len(others))
    one, other = (
        np.pad(f, ((0, length - len(f)), (0, 0)), constant_values=floor) for f in (frames, others)
    )
    return np.abs(one - other).mean()


def mean_distances(
    spectrograms: Sequence[Frames], others: Sequence[Frames], floor: float
) -> dict[str, float]:
    """Return the means over pairs of spectrograms: of distances in dB, and of lengths in frames.

    aligned      `distance`
    unaligned    `unaligned_distance`
    length       how many frames one spectrogram has more than the other
    """
    pairs = list(zip(spectrograms, others, strict=True))
    distances: dict[str, list[Any]] = {
        "aligned": [distance(*pair) for pair in pairs],
        "unaligned": [unaligned_distance(*pair, floor) for pair in pairs],
        "length": [abs(len(one) - len(other)) for one, other in pairs],
    }
    return {name: float(np.mean(found)) for name, found in distances.items()}


def stretched(frames: Frames, length: int) -> Frames:
    """Return a spectrogram at another length, by linear interpolation in time."""
    places = np.linspace(0, len(frames) - 1, length)
    steps = np.arange(len(frames))
    return np.stack([np.interp(places, steps, band) for band in frames.T], axis=1)


def mean_frames(spectrograms: Sequence[Frames]) -> Frames:
    """Return the mean of spectrograms, each stretched to their mean length."""
    length = round(float(np.mean([len(frames) for frames in spectrograms])))
    return np.mean([stretched(frames, length) for frames in spectrograms], axis=0)


def nearest(spectrograms: Sequence[Frames], others: Sequence[Frames]) -> np.ndarray:
    """Return for each spectrogram the index of the nearest of the others, `[N]`.

    Each is stretched to 16 frames and centred in each band, so that pace and voice count less; the
    distance is Euclidean.
    """

    def shapes(spectrograms):
        found = np.stack([stretched(frames, 16) for frames in spectrograms])
        return (found - found.mean(axis=1, keepdims=True)).reshape(len(found), -1)

    known, asked = shapes(others), shapes(spectrograms)
    squares = (known**2).sum(1) - 2 * asked @ known.T  # without ||asked||^2, the same for all
    return squares.argmin(1)


def recognised(
    spectrograms: Sequence[Frames],
    labels: Sequence[str],
    *,
    known: Sequence[Frames],
    names: Sequence[str],
) -> float:
    """Return the fraction of spectrograms whose `nearest` known one has the same name.

    Args:
        spectrograms: `[N]`.
        labels: their names.
        known: `[K]`.
        names: their names.
    """
    found = [names[place] for place in nearest(spectrograms, known)]
    return float(np.mean([a == b for a, b in zip(found, labels, strict=True)]))


def spectrogram_table(panels: Mapping[str, Frames]) -> list[dict[str, Any]]:
    """Return the parts of a table, columns `panel`, `frame`, `band` and `decibel`, of panels."""
    parts = []
    for name, frames in panels.items():
        time, band = (places.ravel() for places in np.indices(frames.shape))
        parts.append({"panel": name, "frame": time, "band": band, "decibel": frames.ravel()})
    return parts
