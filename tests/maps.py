"""Low-dimensional maps as cells: what is known of their dynamics checks the diagnostics."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnnjax import Cell


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Henon(Cell):
    """The map of Henon 1976, as someone would write it who never saw another cell."""

    a: float = 1.4
    b: float = 0.3

    def init(self, key: Any, input_size: int) -> Any:
        return {}

    def initial_carry(self, batch_shape: Sequence[int]) -> Point:
        return Point(jnp.zeros(batch_shape), jnp.zeros(batch_shape))

    def project(self, params: Any, x: Any) -> Any:
        return x[..., 0]

    def step(self, params: Any, carry: Point, u: Any) -> Point:
        return Point(1 - self.a * carry.x**2 + carry.y + u, self.b * carry.x)

    def output(self, carry: Point) -> Any:
        return jnp.stack([carry.x, carry.y], -1)
