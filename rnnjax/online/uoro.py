"""Unbiased online recurrent optimisation: a random matrix of rank one whose mean is ds/dtheta."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.online.base import Method


class UOROTraces(NamedTuple):
    """Two vectors whose outer product has ds/dtheta as its mean, and a key for each example."""

    state: Any  # [N]
    theta: Any  # [P]
    key: Any


@dataclasses.dataclass(frozen=True)
class UORO(Method):
    """s~' = rho_0 J s~ + rho_1 nu,   theta~' = theta~ / rho_0 + nu^T df/dtheta / rho_1;
    E s~ theta~^T = ds/dtheta.

    nu are random signs, new at every step; rho_0 and rho_1 make the two parts of each sum as large
    in s~ as in theta~, which keeps the variance small. The traces are as large as the state and the
    parameters. The gradient has no bias, and a variance that grows with the number of steps that
    the state remembers, and of units.
    Source: Tallec, Ollivier 2017, "Unbiased online recurrent optimization", arXiv:1702.05043.

    `init` needs a key.
    """

    def start(self, cell, step, example, key):
        """Return zeros, and the key."""
        del cell, example
        if key is None:
            raise ValueError("UORO draws random signs: give a key, key=jax.random.key(0)")
        return UOROTraces(jnp.zeros_like(step.s), jnp.zeros_like(step.theta), key)

    def advance(self, cell, step, example, traces):
        """Return s~', theta~' and the next key."""
        del cell, example
        key, now = jax.random.split(traces.key)
        signs = jax.random.rademacher(now, step.s.shape, step.s.dtype)
        _, state = jax.jvp(lambda s: step.after(step.theta, s), (step.s,), (traces.state,))
        added = jax.vjp(lambda theta: step.after(theta, step.s), step.theta)[1](signs)[0]
        old, new = _balance(traces.theta, state), _balance(added, signs)
        return UOROTraces(old * state + new * signs, traces.theta / old + added / new, key)

    def pull(self, cell, step, example, traces, slope):
        """Return (s~ . slope) theta~."""
        del cell, step, example
        return (traces.state @ slope) * traces.theta

    def reset(self, traces, fresh, resets):
        """Return zeros where `resets` is true; keys go on."""
        return Method.reset(self, traces, fresh._replace(key=traces.key), resets)


def _balance(a, b):
    """Return sqrt(|a| / |b|), or 1 where one of them is zero."""
    a, b = jnp.linalg.norm(a), jnp.linalg.norm(b)
    usable = (a > 0) & (b > 0)
    ratio = jnp.sqrt(jnp.where(usable, a, 1) / jnp.where(usable, b, 1))
    return jax.lax.stop_gradient(jnp.where(usable, ratio, 1))  # a number, not a part of the sum
