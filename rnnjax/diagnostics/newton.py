"""Whether Newton's method over time will pay: a forecast from the largest Lyapunov exponent."""

from typing import Any, NamedTuple

import numpy as np

from rnnjax.cells.base import check_size


class NewtonForecast(NamedTuple):
    """What `newton_forecast` returns, arrays of the shape of the exponents."""

    log_amplification: Any  # ln of how much a residual moves the states after it
    iterations: Any  # an estimate, rounded up, at most T
    pays: Any  # whether that many iterations take fewer operations in a row than T steps


def newton_forecast(exponent: Any, steps: int) -> NewtonForecast:
    """Forecast how many iterations `rnnjax.unroll_newton` needs, and whether they will pay.

        kappa = sum_{k < T} exp(lambda_1 k),   iterations ~ min(T, 3 + kappa)

    An error of one step moves the states after it by exp(lambda_1 k) at lag k, so kappa is how much
    residuals are amplified: 1 / (1 - exp(lambda_1)) while lambda_1 < 0, whatever T; T at the edge
    of chaos; exponential in T beyond. Newton's method converges fast within a radius of the order
    of 1 / kappa; exact Newton needs at most T iterations, because one more state is right after
    each. The estimate is a rule of thumb for exact Newton: above what
    `experiments/newton.py` measures where lambda_1 < -0.1, and below it closer to zero, where a
    network that contracts on average still expands for many steps in a row.

    An iteration takes about 2 log2 T + 2 operations one after the other, and the step-by-step loop
    T. `pays` compares these: it is about a device that does all else side by side, an accelerator
    with work to spare. On a CPU it is too optimistic, since an iteration with dense Jacobians does
    many times the arithmetic of the loop.

    Args:
        exponent: lambda_1 in nats per step, as `lyapunov_spectrum(..., num=1).exponents`: a number
            or an array; of the driven network, with the inputs that Newton's method will see.
        steps: T.

    Raises:
        ValueError: `steps` is not a positive integer, or an exponent is NaN.

    Source: Gonzalez et al. 2025, "Predictability enables parallelization of nonlinear state space
    models", arXiv:2508.16817 (the largest Lyapunov exponent governs the conditioning).
    """
    check_size("steps", steps)
    rate = np.asarray(exponent, float)
    if np.isnan(rate).any():
        raise ValueError("exponent must be numbers, got NaN")
    # ln (exp(lambda T) - 1) / (exp(lambda) - 1), from the side that does not overflow
    modulus = np.clip(np.abs(rate), 1e-12, 1e3)
    ratio = np.log(-np.expm1(-modulus * steps)) - np.log(-np.expm1(-modulus))
    log_amplification = ratio + np.where(rate > 0, modulus * (steps - 1), 0)
    log_amplification = np.where(modulus * steps < 1e-9, np.log(steps), log_amplification)
    estimate = np.ceil(3 + np.exp(np.minimum(log_amplification, np.log(steps))))
    iterations = np.minimum(steps, estimate).astype(int)
    in_a_row = 2 * np.log2(steps) + 2
    return NewtonForecast(log_amplification, iterations, iterations * in_a_row < steps)
