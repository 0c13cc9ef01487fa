"""Psychometric functions: how often a choice is made at each strength of the evidence.

These read a network's answers on the host, in NumPy and float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

Chosen = Bool[Array, " B"] | Bool[np.ndarray, " B"]
Strengths = Float[Array, " B"] | Float[np.ndarray, " B"]


class Psychometric(NamedTuple):
    """The share of a choice at each strength, ascending."""

    strengths: Float[np.ndarray, " K"]
    counts: Int[np.ndarray, " K"]  # of trials
    shares: Float[np.ndarray, " K"]  # of the choice among them


class LogisticCurve(NamedTuple):
    """P(choice | x) = 1 / (1 + exp(-slope (x - threshold)))."""

    threshold: float  # where both choices have even odds, in units of the strength
    slope: float  # per unit of the strength; its largest slope is slope / 4

    def __call__(self, strengths: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """Return the probability of the choice at these strengths."""
        return sigmoid(self.slope * (np.asarray(strengths, np.float64) - self.threshold))


def psychometric(chosen: Chosen, strengths: Strengths) -> Psychometric:
    """Return how often a choice was made at each strength that occurs.

    Args:
        chosen: for each trial, whether the choice was made, `[B]`.
        strengths: the signed strength of the evidence for it, `[B]`.

    Raises:
        ValueError: the arrays are not of one shape `[B]`, or empty.

    For a decision between two directions::

        trials = task.sample_trials(key, 1024)
        c = trials.conditions
        towards = jnp.where(c.choice == 0, c.coherence, -c.coherence)
        table = psychometric(choices(outputs, trials.batch) == 1, towards)
    """
    made, x = check_trials(chosen, strengths)
    values, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    return Psychometric(values, counts, np.bincount(index, made, len(values)) / counts)


def fit_logistic(chosen: Chosen, strengths: Strengths) -> LogisticCurve:
    """Return the logistic curve of greatest likelihood, by Newton's method.

    Raises:
        ValueError: the arrays are not of one shape `[B]`, or a threshold separates both choices
            (or one is never made), so that no finite slope is best.
    """
    made, x = check_trials(chosen, strengths)
    on, off = x[made == 1], x[made == 0]
    if not len(on) or not len(off) or on.min() >= off.max() or off.min() >= on.max():
        raise ValueError("strengths must not separate the two choices: no finite slope fits best")
    scale = np.abs(x).max()
    design = np.stack([np.ones_like(x), x / scale], axis=1)
    weights = np.zeros(2)
    for _ in range(200):
        odds = sigmoid(design @ weights)
        gradient = design.T @ (made - odds)
        hessian = (design * (odds * (1 - odds))[:, None]).T @ design
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2 / np.abs(step).max()) if step.any() else 1.0
        weights += step
        if np.abs(step).max() < 1e-12 * max(1.0, np.abs(weights).max()):
            break
    offset, slope = weights[0], weights[1] / scale
    return LogisticCurve(float(-offset / slope), float(slope))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def check_trials(chosen: Chosen, strengths: Strengths) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64, or raise a ValueError unless they are of one shape `[B]`."""
    made, x = np.asarray(chosen, np.float64), np.asarray(strengths, np.float64)
    if made.ndim != 1 or made.shape != x.shape or not made.size:
        raise ValueError(
            f"chosen and strengths must be of one shape [B] with B > 0, got {made.shape} and "
            f"{x.shape}"
        )
    return made, x
