"""N-gram baselines for chorales: each voice by itself, sixteenth by sixteenth."""

import collections
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnjax.datasets.music.events import home
from rnnjax.datasets.music.voices import sounding
from rnnjax.datasets.n_grams import interpolate


def contexts(chorale: Any, pitches: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each baseline knows of a sixteenth before it begins, `[T, 4]`.

    Args:
        chorale: a `Chorale`, for its bar and upbeat.
        pitches: its voices, in any key.
    """
    start = np.full((1, 4), -1)
    sounds = np.concatenate([start, sounding(pitches)[:-1]])
    beat = (np.arange(len(pitches)) - chorale.upbeat) % chorale.bar % 4
    return {
        "unigram": np.zeros_like(pitches),
        "bigram": np.concatenate([start, pitches[:-1]]),
        "bigram of notes within the beat": 4 * sounds + beat[:, None],
    }


def bits_per_sixteenth(train: Sequence[Any], held_out: Sequence[Any]) -> dict[str, float]:
    """Return the bits per sixteenth of held-out chorales, all four voices together, by baseline.

    `rnnjax.datasets.n_grams.interpolate` mixes each context with the unigram, and the unigram with
    the uniform distribution. Symbols that this voice has in no training chorale count as one
    further symbol.

    Args:
        train, held_out: of type `Chorale`; they are compared in C major and A minor.
    """
    counts = collections.defaultdict(collections.Counter)
    for chorale in train:
        pitches = home(chorale)
        for name, known in contexts(chorale, pitches).items():
            for v in range(4):
                for context, x in zip(known[:, v].tolist(), pitches[:, v].tolist(), strict=True):
                    counts[name, v, context][x] += 1
    bits, sixteenths = collections.defaultdict(float), 0
    for chorale in held_out:
        pitches = home(chorale)
        sixteenths += len(pitches)
        for name, known in contexts(chorale, pitches).items():
            for v in range(4):
                own = counts["unigram", v, 0]
                for context, x in zip(known[:, v].tolist(), pitches[:, v].tolist(), strict=True):
                    p = interpolate(own, x, 1 / (len(own) + 1))
                    if name != "unigram" and (name, v, context) in counts:
                        p = interpolate(counts[name, v, context], x, p)
                    bits[name] -= math.log2(p)
    return {name: value / sixteenths for name, value in bits.items()}
