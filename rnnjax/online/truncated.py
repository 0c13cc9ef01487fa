"""Truncated back-propagation, as an online method: the last k steps again, at every step."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax.cells.base import check_size
from rnnjax.online.base import Example, Method, flat_step
from rnnjax.recurrence.carries import flatten, partition


class TruncatedTraces(NamedTuple):
    """The last k steps, the oldest first."""

    carries: Any  # [k, ...], entering
    xs: Any  # [k, D]
    weights: Any  # [k]
    taken: Any  # [k], bool


@dataclasses.dataclass(frozen=True)
class Truncated(Method):
    """dl_t/dtheta over the last k steps: exact for lags up to k, and nothing beyond.

    The states and inputs of k steps are kept, and every gradient goes back over all of them.
    Source: Williams, Peng 1990, "An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories".

    Args:
        k: steps; the last one has lag 1.

    Raises:
        ValueError: k is not a positive integer.
    """

    k: int

    def __post_init__(self):
        check_size("k", self.k)

    def start(self, cell, step, example, key):
        """Return k steps that were not taken."""
        del cell, step, key

        def repeated(a):
            return jnp.zeros((self.k, *jnp.shape(a)), jnp.result_type(a))

        carries, xs = jax.tree.map(repeated, (example.carry, example.x))
        weights = jnp.zeros(self.k, jnp.result_type(float))
        return TruncatedTraces(carries, xs, weights, jnp.zeros(self.k, bool))

    def advance(self, cell, step, example, traces):
        """Return the last k steps."""
        del cell, step
        newest = TruncatedTraces(example.carry, example.x, example.weight, True)
        return jax.tree.map(
            lambda old, new: jnp.concatenate([old[1:], jnp.asarray(new, old.dtype)[None]]),
            traces,
            newest,
        )

    def pull(self, cell, step, example, traces, slope):
        """Return the gradient over the last k steps."""

        def last(theta):
            def one(s, now):
                carry, x, weight, taken, first = now
                given = flat_step(cell, Example(example.params, carry, x, weight))
                s = jnp.where(first, lax.stop_gradient(given.s), s)
                return jnp.where(taken, given.after(theta, s), s), None

            first = traces.taken & ~jnp.concatenate([jnp.zeros(1, bool), traces.taken[:-1]])
            start = jnp.zeros_like(flatten(partition(example.carry)[0], 0))
            return lax.scan(one, start, (*traces, first))[0]

        return jax.vjp(last, step.theta)[1](slope)[0]
