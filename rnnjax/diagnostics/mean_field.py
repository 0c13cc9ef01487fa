"""Mean-field theory of networks of infinitely many tanh units with Gaussian weights."""

import math
from collections.abc import Callable

import numpy as np

from rnnjax.cells.base import check_size

Z = np.linspace(-10, 10, 4001)
WEIGHT = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def gaussian_mean(function: Callable[[np.ndarray], np.ndarray], variance: float) -> float:
    """Return E[function(x)], x ~ N(0, variance), by the trapezoidal rule, for smooth functions."""
    return float(WEIGHT @ function(math.sqrt(variance) * Z))


def mean_squared_slope(variance: float) -> float:
    """Return E[tanh'(x)^2], x ~ N(0, variance)."""
    return gaussian_mean(lambda x: (1 - np.tanh(x) ** 2) ** 2, variance)


def mean_field_exponent(gain: float, input_variance: float = 0.0, rounds: int = 10_000) -> float:
    """Return the rate at which differences grow in a random tanh network, in nats per step.

        x' = W tanh(x) + u,   W ~ N(0, g^2 / N),   u ~ N(0, sigma^2),   N -> infinity:
        Delta = g^2 E[tanh(x)^2] + sigma^2,   lambda_1 = ln(g^2 E[tanh'(x)^2]) / 2

    with x ~ N(0, Delta). Without inputs and for g < 1 the state decays to zero, and
    lambda_1 = ln g.

    Args:
        gain: g, positive.
        input_variance: sigma^2, not negative.
        rounds: the largest number of fixed-point iterations, which converge slowly near g = 1
            without inputs.

    Raises:
        ValueError: `gain` is not positive, or `input_variance` is negative.

    Source: Molgedey, Schuchhardt, Schuster 1992, "Suppressing chaos in neural networks by noise";
    Sompolinsky, Crisanti, Sommers 1988, "Chaos in random neural networks".
    """
    check_size("rounds", rounds)
    if not 0 < gain < math.inf:
        raise ValueError(f"gain must be positive and finite, got {gain}")
    if not 0 <= input_variance < math.inf:
        raise ValueError(f"input_variance must be finite and not negative, got {input_variance}")
    if gain <= 1 and input_variance == 0:
        return math.log(gain)
    variance, before = input_variance + gain**2, 0.0
    for _ in range(rounds):
        if abs(variance - before) <= 1e-12 * variance:
            break
        power = gaussian_mean(lambda x: np.tanh(x) ** 2, variance)
        variance, before = input_variance + gain**2 * power, variance
    return math.log(gain**2 * mean_squared_slope(variance)) / 2


def critical_gain(input_variance: float, tolerance: float = 1e-6) -> float:
    """Return the gain beyond which `mean_field_exponent` is positive: g* >= 1.

    The largest singular value of a product of Jacobians grows there, in an infinitely large
    network. Inputs raise it.

    Args:
        input_variance: sigma^2, so small that g* is below 100.
        tolerance: g* is less than this below the result.

    Raises:
        ValueError: `input_variance` is negative.
    """
    low, high = 0.5, 100.0
    while high - low > tolerance:
        middle = (low + high) / 2
        grows = mean_field_exponent(middle, input_variance) > 0
        low, high = (low, middle) if grows else (middle, high)
    return high
