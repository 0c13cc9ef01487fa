"""The chance level of trials: what the best answers do that do not depend on the trial."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from rnnjax.tasks.trials.durations import step_table

CHUNK = 4096  # timings that are held at a time


def timings(task: Any) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield the probabilities `[C]` of all timings and their steps by epoch `[C]`, in chunks."""
    tables = [step_table(duration, task.dt) for duration in task.durations.values()]
    product = itertools.product(*(range(len(steps)) for steps, _ in tables))
    while chunk := list(itertools.islice(product, CHUNK)):
        pairs = list(zip(tables, np.array(chunk).T, strict=True))
        odds = np.prod([odds[index] for (_, odds), index in pairs], axis=0)
        found = (steps[index] for (steps, _), index in pairs)
        yield odds, dict(zip(task.durations, found, strict=True))


@functools.lru_cache(maxsize=256)
def best_fixed_loss(task: Any) -> float:
    """Return the smallest expected loss of answers that are fixed in advance for each step.

        L = - sum_t sum_k w_tk ln(w_tk / sum_j w_tj),    w_tk = E[1{step t scored, label k} / n]

    with n the number of scored steps of a trial: exact, by enumeration of all timings of the
    `TrialTask`. The result is kept, as tasks are hashable.
    """
    answer = np.zeros(task.total_length)  # at each step, the weight of answers
    scored = np.zeros(task.total_length)
    for odds, steps in timings(task):
        epochs = task.place(steps)
        mask = task.scored_steps(epochs)
        each = odds / mask.sum(axis=1)
        scored += each @ mask
        answer += each @ (mask & task.answer_steps(epochs))
    weights = answer[:, None] * np.array(task.answers)
    weights[:, 0] += scored - answer
    weights = np.maximum(weights, 0)
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    return float(-(weights * np.log(np.where(share > 0, share, 1))).sum())
