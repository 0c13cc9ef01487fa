"""The logistic map, whose fixed points and cycles are known, as a cell of a user's own."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import rnnjax


class Point(NamedTuple):
    """The state of a map."""

    x: Any  # [*batch]


@dataclasses.dataclass(frozen=True)
class Logistic(rnnjax.Cell):
    """x' = r x (1 - x) + u."""

    def init(self, key, input_size):
        return {"r": jax.random.uniform(key, minval=3.0, maxval=4.0)}

    def initial_carry(self, batch_shape):
        return Point(jnp.full(batch_shape, 0.5))

    def project(self, ready, x):
        return x.sum(-1)

    def step(self, ready, carry, u):
        return Point(ready["r"] * carry.x * (1 - carry.x) + u)

    def output(self, carry):
        return carry.x[..., None]
