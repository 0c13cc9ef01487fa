"""Scalar linear recurrences on correlated inputs: three ways to write them, and their moments.

    h_{t+1} = lambda(theta) h_t + gamma(theta) x_{t+1}

    plain        lambda = theta,             gamma = 1
    normalised   lambda = theta,             gamma^2 = 1 - lambda^2
    remedied     lambda = exp(-exp(theta)),  gamma^2 = 1 - lambda^2

Source: Zucchet, Orvieto 2024, "Recurrent neural networks: vanishing and exploding gradients are not
the end of the story", NeurIPS, sections 2 and 3.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax.cells.linear import Linear
from rnnjax.recurrence.sequential import unroll


class Recurrence(NamedTuple):
    """A scalar recurrence h' = decay(theta) h + gain(theta) x, and theta of a given decay."""

    decay: Callable[[Any], Any]
    gain: Callable[[Any], Any]
    theta: Callable[[Any], Any]


def _same(decay):
    return decay


RECURRENCES = {
    "plain": Recurrence(_same, jnp.ones_like, _same),
    "normalised": Recurrence(_same, lambda decay: jnp.sqrt(1 - decay**2), _same),
    "remedied": Recurrence(
        lambda nu: jnp.exp(-jnp.exp(nu)),
        lambda nu: jnp.sqrt(-jnp.expm1(-2 * jnp.exp(nu))),
        lambda decay: jnp.log(-jnp.log(decay)),
    ),
}


MOMENTS = {
    "plain state": "E[h²]",
    "plain sensitivity": "E[(dh/dλ)²]",
    "normalised state": "E[(γh)²], γ² = 1 - λ²",
    "normalised sensitivity": "E[(d(γh)/dλ)²]",
    "remedied state": "E[(γh)²], λ = exp(-exp ν)",
    "remedied sensitivity": "E[(d(γh)/dν)²], λ = exp(-exp ν)",
}
"""How the moments of h and dh/dtheta are written, in terms of the plain h."""


class Carry(NamedTuple):
    """The state of `Diagonal`."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True)
class Diagonal(Linear):
    """H scalar recurrences side by side, each on the sum of the inputs.

    The parameters are their thetas, `[H]`.
    """

    recurrence: Recurrence
    features: int

    def init(self, key: Array, input_size: int) -> Array:
        """Draw decays from U[0.3, 0.6], well below 1, where sqrt(1 - decay^2) is not smooth."""
        del input_size
        decays = jax.random.uniform(key, (self.features,), minval=0.3, maxval=0.6)
        return self.recurrence.theta(decays)

    def initial_carry(self, batch_shape: Sequence[int]) -> Carry:
        """Return h = 0."""
        return Carry(jnp.zeros((*batch_shape, self.features)))

    def coefficients(self, ready: Any, x: Any) -> tuple[Carry, Carry]:
        """Return lambda and gamma x."""
        b = self.recurrence.gain(ready) * x.sum(-1, keepdims=True)
        return Carry(self.recurrence.decay(ready)), Carry(b)

    def output(self, carry: Carry) -> Any:
        """Return h."""
        return carry.h


def diagonal(name: str, features: int) -> Diagonal:
    """Return H = `features` recurrences of one kind, by its name in `RECURRENCES`."""
    return Diagonal(RECURRENCES[name], features)


def sensitivities(
    cell: Diagonal, thetas: Any, xs: Any, states: tuple[Any, Any]
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return (h_T, dh_T/dtheta) and all (h_t, dh_t/dtheta), t = 1 .. T, by forward differentiation.

    Args:
        cell, xs: as for `rnnjax.unroll`, xs `[T, *batch, D]`.
        thetas: the parameters, `[H]`.
        states: (h_0, dh_0/dtheta), carries of the cell.
    """
    (h, hs), (dh, dhs) = jax.jvp(
        lambda thetas, h: unroll(cell, thetas, xs, h),
        (thetas, states[0]),
        (jnp.ones_like(thetas), states[1]),
    )
    return (h, dh), (hs, dhs)


class SecondMoments(NamedTuple):
    """What `second_moments` returns."""

    state: Any  # E[h^2]
    sensitivity: Any  # E[(dh/dtheta)^2]


def second_moments(
    name: str, decay: Float[np.ndarray, "..."] | float, rho: float | int
) -> SecondMoments:
    """Return E[h^2] and E[(dh/dtheta)^2] of a recurrence, in the stationary limit.

    x is an AR(1) process of unit variance, E[x_t x_{t+k}] = rho^|k|. For two plain recurrences a
    and b on it

        F(a, b) = E[h_a h_b] = sum_{k,l >= 0} a^k b^l rho^|k-l|
                = (1 + a rho / (1 - a rho) + b rho / (1 - b rho)) / (1 - a b),

    and at a = b = lambda: E[h^2] = F and E[(dh/dlambda)^2] = d^2F/da db. The state of the other two
    is gamma h. d(gamma h)/dlambda is h/gamma through the filter (z - lambda) / (1 - lambda z), z
    the delay of one step, which changes the power of no stationary process: its second moment is
    E[h^2] / gamma^2. That of d(gamma h)/dnu is thus (s / (2 sinh s))^2 E[(gamma h)^2],
    s = exp(nu): never above a quarter of E[(gamma h)^2], which is below (1 + rho) / (1 - rho).

    Args:
        name: as in `RECURRENCES`.
        decay: lambda, between 0 and 1.
        rho: between 0 and 1.
    """
    p, q = 1 - decay**2, 1 - decay * rho
    state = (1 + decay * rho) / (p * q)
    if name == "plain":
        sensitivity = (1 + decay**2) * state / p**2 + 2 * decay * rho / (p * q) ** 2
        return SecondMoments(state, sensitivity)
    slope = decay * np.log(decay) if name == "remedied" else 1  # dlambda/dtheta
    return SecondMoments(p * state, slope**2 * state / p)


def moments(decay: Float[np.ndarray, "..."] | float, rho: float | int) -> dict[str, Any]:
    """Return `second_moments` of all recurrences, by the names in `MOMENTS`."""
    return {
        f"{name} {moment}": value
        for name in RECURRENCES
        for moment, value in second_moments(name, decay, rho)._asdict().items()
    }
