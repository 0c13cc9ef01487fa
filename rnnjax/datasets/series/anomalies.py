"""Synthetic anomalies in a series, and the quality of their detection."""

from collections.abc import Iterable, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from rnnjax.datasets import batches

KINDS = "spike", "shift", "stuck"
SIZES = 1.0, 3.0  # smallest and largest, in units of the deviation
STUCK = 6  # steps


class Anomaly(NamedTuple):
    """One anomaly and its labelled steps `[start, end)`."""

    kind: str
    start: int
    end: int


def inject(
    values: np.ndarray, start: int | np.integer, deviation: float, each: int, seed: int
) -> tuple[np.ndarray, list[Anomaly]]:
    """Return a copy of a series with synthetic anomalies from step `start` on, and their labels.

    spike    one value is off; it and the step back are labelled
    shift    all values from one on are off; its step is labelled
    stuck    `STUCK` values repeat the one before; they and the step after are labelled

    The steps from `start` on are cut into equal parts, one per anomaly. The kind of a part, the
    position within it, the size (`SIZES`, uniform) and the sign are random.

    Args:
        values: `[T]`.
        start: first step that may change.
        deviation: the unit of the sizes.
        each: anomalies of each kind.
        seed: of the random numbers, which do not depend on the version of NumPy.

    Raises:
        ValueError: there are fewer than 2 * `STUCK` steps per anomaly.
    """
    kinds = [KINDS[i % len(KINDS)] for i in batches.shuffled(each * len(KINDS), seed, 0)]
    room = (len(values) - start) // len(kinds)
    if room < 2 * STUCK:
        raise ValueError(
            f"{len(kinds)} anomalies need {2 * STUCK} steps each, there are {len(values) - start}"
        )
    drawn = np.random.PCG64((seed, 1)).random_raw((len(kinds), 3)) / 2.0**64
    changed, found = values.copy(), []
    for part, (kind, (where, size, sign)) in enumerate(zip(kinds, drawn, strict=True)):
        first = int(start) + part * room + int(where * (room - STUCK))
        offset = deviation * (SIZES[0] + size * (SIZES[1] - SIZES[0])) * (1 if sign < 0.5 else -1)
        if kind == "spike":
            changed[first] += offset
            found.append(Anomaly(kind, first, first + 2))
        elif kind == "shift":
            changed[first:] += offset
            found.append(Anomaly(kind, first, first + 1))
        else:
            changed[first : first + STUCK] = changed[first - 1]
            found.append(Anomaly(kind, first, first + STUCK + 1))
    return changed, found


def inject_copies(
    values: np.ndarray, start: int | np.integer, deviation: float, each: int, copies: int
) -> tuple[np.ndarray, list[list[Anomaly]]]:
    """Return copies of a series, `[C, T]`, each with anomalies of its own, and their labels.

    Args:
        values, start, deviation, each: as for `inject`.
        copies: C; copy c has the seed c.

    Raises:
        ValueError: as `inject`.
    """
    found = [inject(values, start, deviation, each, copy) for copy in range(copies)]
    return np.stack([changed for changed, _ in found]), [anomalies for _, anomalies in found]


def labelled(anomalies: Iterable[Anomaly]) -> set[int]:
    """Return the labelled steps of some anomalies."""
    return {step for one in anomalies for step in range(one.start, one.end)}


def quality(flagged: Sequence[Set[Any]], anomalies: Iterable[Sequence[Anomaly]]) -> dict[str, Any]:
    """Return F1, precision over steps, recall over anomalies, and the recall of each kind.

        F1 = 2 precision recall / (precision + recall)

    An anomaly is found if any of its labelled steps is flagged.

    Args:
        flagged: the flagged steps of each copy of a series.
        anomalies: the anomalies of each copy.

    Source: Garg et al. 2021, "An evaluation of anomaly detection and diagnosis in multivariate time
    series" (composite F-score).
    """
    right = total = 0
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for steps, injected in zip(flagged, anomalies, strict=True):
        right, total = right + len(steps & labelled(injected)), total + len(steps)
        for one in injected:
            hits[one.kind].append(not steps.isdisjoint(range(one.start, one.end)))
    precision = right / total if total else 0.0
    recall = float(np.mean([hit for found in hits.values() for hit in found]))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    kinds = {kind: float(np.mean(found)) for kind, found in hits.items()}
    return {"f1": f1, "precision": precision, "recall": recall, "recall_of_kinds": kinds}
