"""Chorales as a one-to-many network reads and writes them: a context, then events."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from rnnjax.datasets.batches import pad
from rnnjax.datasets.music.events import home, to_events
from rnnjax.datasets.vocabulary import Vocabulary


def context(mode: str, bar: int, upbeat: int) -> Float32[np.ndarray, "4"]:
    """Return what is known before the first event: major, minor, bar / 16 and upbeat / bar.

    Args:
        mode: "major" or "minor".
        bar: sixteenths of a full bar.
        upbeat: sixteenths before the first full bar.
    """
    return np.array([mode == "major", mode == "minor", bar / 16, upbeat / bar], np.float32)


def events(chorales: Sequence[Any]) -> list[list[str]]:
    """Return the events of each `Chorale`, in C major or A minor."""
    return [to_events(home(c), c.bar, c.upbeat) for c in chorales]


def columns(
    chorales: Sequence[Any], vocabulary: Vocabulary, window: int | None = None
) -> dict[str, np.ndarray]:
    """Return `context [N, 4]`, `targets [N, T]`, the events and an end, and `lengths [N]`.

    Args:
        chorales: of type `Chorale`.
        vocabulary: of events.
        window: T; None means that of the longest chorale. Longer ones are cut.
    """
    rows = [np.append(vocabulary.encode(found), np.int32(1)) for found in events(chorales)]
    targets, lengths = pad(rows, window)
    contexts = np.stack([context(c.mode, c.bar, c.upbeat) for c in chorales])
    return {"context": contexts, "targets": targets, "lengths": lengths}
