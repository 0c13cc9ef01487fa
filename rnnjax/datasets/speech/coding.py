"""Digits and voices as the inputs of a network that speaks, spectrograms as its targets, and back.

The network reads a clock and generates, at every step, a frame and how much of the digit has been
said by then, from -SAID to SAID, which ends it.

Axis letters: N recordings, C entries of a context, T frames, M mel bands.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from rnnjax.datasets import batches
from rnnjax.datasets.speech.audio import LogMel
from rnnjax.datasets.speech.loader import Recording
from rnnjax.datasets.speech.spectrograms import Frames

MEL = LogMel(window=512, hop=128)  # 16 ms from frame to frame
SAID = 4.0  # it is one of the targets: the larger, the more the end of a digit counts in the loss
SPEED = 160  # words per minute


def clock(size: int, length: int) -> Float[Array, "size length 3"]:
    """Return the time of each frame in s, and the hands of a clock that turns once a second."""
    seconds = jnp.arange(length) * MEL.hop / MEL.rate
    hands = seconds, jnp.sin(2 * jnp.pi * seconds), jnp.cos(2 * jnp.pi * seconds)
    return jnp.broadcast_to(jnp.stack(hands, axis=1), (size, length, 3))


@dataclasses.dataclass(frozen=True)
class Coding:
    """What is fitted on training recordings, and the coding that follows from it.

    Args:
        mean, deviation: of each mel band, in dB, `[M]`.
        voices: their names.
        length: frames of the longest recording.
    """

    mean: Sequence[float]
    deviation: Sequence[float]
    voices: Sequence[str]
    length: int

    @classmethod
    def fit(cls, recordings: Sequence[Recording]) -> "Coding":
        """Return the coding fitted on recordings."""
        frames = [MEL.frames(recording.samples) for recording in recordings]
        every = np.concatenate(frames)
        voices = sorted({recording.speaker for recording in recordings})
        length = max(len(f) for f in frames)
        return cls(every.mean(0).tolist(), every.std(0).tolist(), voices, length)

    @property
    def width(self) -> int:
        """Entries of a context: ten digits, the voices, the speed."""
        return 10 + len(self.voices) + 1

    def contexts(
        self, digits: Sequence[str], voices: Sequence[str], speeds: Sequence[int]
    ) -> Float32[np.ndarray, "N C"]:
        """Return the digit and the voice of each recording one-hot, then its speed."""
        found = np.zeros((len(digits), self.width), np.float32)
        rows = np.arange(len(digits))
        found[rows, [int(digit) for digit in digits]] = 1
        found[rows, [10 + self.voices.index(voice) for voice in voices]] = 1
        found[:, -1] = (np.array(speeds) - SPEED) / 30
        return found

    def targets(self, frames: Frames) -> Float32[np.ndarray, "T M+1"]:
        """Return frames as targets of the network: scaled, then how much is said after each."""
        said = np.linspace(-1, 1, len(frames) + 1)[1:]
        scaled = (frames - np.array(self.mean)) / np.array(self.deviation)
        return np.append(scaled, SAID * said[:, None], axis=1).astype(np.float32)

    def frames(self, outputs: Float[np.ndarray, "T K"]) -> Float32[np.ndarray, "_ M"]:
        """Return the frames of a network's outputs, K = M + 1, until (nearly) all is said."""
        said = np.minimum(outputs[:, -1], 0.96 * SAID)  # a frame is about 0.07 of it
        outputs = outputs[: said.argmax() + 1, :-1]
        frames = outputs * np.array(self.deviation) + np.array(self.mean)
        return np.maximum(frames, MEL.floor).astype(np.float32)

    def columns(
        self, recordings: Sequence[Recording], frames: Sequence[Frames]
    ) -> dict[str, np.ndarray]:
        """Return `contexts [N, C]`, padded `targets [N, T, M + 1]`, and their `lengths [N]`.

        Args:
            recordings: of one digit each.
            frames: their spectrograms.
        """
        targets, lengths = batches.pad([self.targets(one) for one in frames])
        said = zip(*((r.digits, r.speaker, r.speed) for r in recordings), strict=True)
        return {"contexts": self.contexts(*said), "targets": targets, "lengths": lengths}
