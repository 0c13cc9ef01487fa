"""A cell of a user's own whose carry holds an integer beside floating-point values."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnnjax import Cell


class CountingCarry(NamedTuple):
    steps: Any
    z: Any


@dataclasses.dataclass(frozen=True)
class Counting(Cell):
    """A user's cell whose carry holds an integer, and a complex plane rotated at every step."""

    def init(self, key, input_size):
        return {"angle": jnp.float32(0.3), "w": jnp.ones((input_size, 2), jnp.float32)}

    def initial_carry(self, batch_shape):
        return CountingCarry(
            jnp.zeros(batch_shape, jnp.int32), jnp.zeros((*batch_shape, 2), jnp.float32)
        )

    def project(self, params, x):
        return x @ params["w"]

    def step(self, params, carry, u):
        c, s = jnp.cos(params["angle"]), jnp.sin(params["angle"])
        turned = 0.8 * carry.z @ jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])
        return CountingCarry(carry.steps + 1, turned + u)

    def output(self, carry):
        return carry.z
