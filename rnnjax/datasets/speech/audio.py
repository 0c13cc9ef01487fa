"""Samples to log-mel frames and back (librosa), and WAV files (SciPy).

Samples are int16, one channel. Axis letters: N samples, T frames, M mel bands.
"""

import dataclasses
import functools
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16

RATE = 8000


@dataclasses.dataclass(frozen=True)
class LogMel:
    """The power of each mel band in each frame, in dB, of samples scaled to -1..1.

    Frame t is centred on sample t * hop, so N > 0 samples give 1 + N // hop frames. The recording
    is padded with silence on both sides. A band below `floor` is set to `floor`, so that digital
    silence is constant.

    Args:
        rate: samples per second.
        window: samples per frame.
        hop: samples between two frames.
        bands: M.
        floor: in dB.
    """

    rate: int = RATE
    window: int = 256
    hop: int = 160
    bands: int = 40
    floor: float = -80.0

    def frames(self, samples: Int16[np.ndarray, " N"]) -> Float32[np.ndarray, "T M"]:
        """Return the frames of a recording.

        Raises:
            ModuleNotFoundError: librosa is missing; the message names the extra.
        """
        if not len(samples):
            return np.zeros((0, self.bands), np.float32)
        power = _librosa().feature.melspectrogram(
            y=np.pad(samples.astype(np.float32) / 32768, self.window // 2),
            sr=self.rate,
            n_fft=self.window,
            hop_length=self.hop,
            n_mels=self.bands,
            center=False,
        )
        return 10 * np.log10(np.maximum(power.T, 10 ** (self.floor / 10))).astype(np.float32)

    def samples(
        self, frames: Float32[np.ndarray, "T M"], *, iterations: int = 32
    ) -> Int16[np.ndarray, " N"]:
        """Return (T - 1) * hop samples with approximately these frames, by Griffin-Lim.

        Phases start at zero and improve over `iterations`; samples out of range are clipped.

        Source: Griffin, Lim 1984, "Signal estimation from modified short-time Fourier transform".

        Raises:
            ModuleNotFoundError: librosa is missing; the message names the extra.
        """
        librosa, inverse = _librosa(), _librosa().feature.inverse
        if len(frames) < 2:
            return np.zeros(0, np.int16)
        power = 10 ** (np.asarray(frames, np.float64).T / 10)
        power[power <= 10 ** (self.floor / 10)] = 0
        spectrum = inverse.mel_to_stft(power, sr=self.rate, n_fft=self.window)
        sound = librosa.griffinlim(
            spectrum, n_iter=iterations, hop_length=self.hop, n_fft=self.window, init=None
        )
        return np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)


def resample(samples: Int16[np.ndarray, " N"], rate: int, to: int = RATE) -> np.ndarray:
    """Return a recording at another sample rate, int16, low-pass filtered for the new rate."""
    if rate == to or not len(samples):
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, to)
    up, down = to // common, rate // common
    sound = resample_poly(samples.astype(np.float64), up, down, window=_low_pass(max(up, down)))
    return np.clip(np.round(sound), -32768, 32767).astype(np.int16)


def read_wav(file: Any, rate: int = RATE) -> Int16[np.ndarray, " N"]:
    """Return the recording in a WAV file, at `rate`; several channels are averaged.

    Args:
        file: a path, or an open binary file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a WAV file of 8-, 16- or 32-bit samples or floats; the message names
            the file.
    """
    from scipy.io import wavfile

    name = getattr(file, "name", file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # unknown chunks
            found, sound = wavfile.read(file)
    except OSError:
        raise
    except Exception as error:  # SciPy raises many types, depending on the damage
        raise ValueError(f"{name} is not a WAV file: {error}") from error
    scale = {"u1": 256, "i2": 1, "i4": 2**-16, "f4": 32768, "f8": 32768}.get(sound.dtype.str[1:])
    if scale is None or found < 1:
        raise ValueError(f"{name} holds {sound.dtype} at {found} Hz, which is not read")
    sound = (sound.astype(np.float64) - (128 if sound.dtype == np.uint8 else 0)) * scale
    if not np.isfinite(sound).all():
        raise ValueError(f"{name} holds samples that are not finite")
    sound = sound.mean(1) if sound.ndim == 2 else sound
    return resample(np.clip(np.round(sound), -32768, 32767).astype(np.int16), found, rate)


def write_wav(path: str | os.PathLike, samples: Int16[np.ndarray, " N"], rate: int = RATE) -> None:
    """Write a recording as a 16-bit WAV file."""
    from scipy.io import wavfile

    wavfile.write(path, rate, np.asarray(samples, np.int16))


def write_clips(
    folder: Path, sounds: Mapping[str, Int16[np.ndarray, " _"]], rate: int = RATE
) -> list[Path]:
    """Write recordings by name as WAV files of a folder, which is made, and return their paths."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.wav" for name in sounds]
    for path, samples in zip(paths, sounds.values(), strict=True):
        write_wav(path, samples, rate)
    return paths


@functools.cache
def _low_pass(factor):
    """Return the filter that `resample_poly` would design again for every recording."""
    from scipy.signal import firwin

    window: Any = ("kaiser", 5.0)
    return firwin(20 * factor + 1, 1 / factor, window=window)


def _librosa() -> Any:
    try:
        import librosa
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"sound is turned into frames by librosa, which cannot be imported ({error.name} is "
            "missing): pip install 'rnnjax[speech]'",
            name=error.name,
        ) from None
    return librosa
