"""Dropout of recurrent connections with one mask for all time, around a gated cell."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rnnjax.cells.base import Noisy, Stochastic, is_gated
from rnnjax.cells.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class VariationalDropout(Stochastic):
    """v = (h * m) U,  m = Bernoulli(1 - rate) / (1 - rate), drawn once for each unit and sequence.

    The same mask at every step; the elementwise part of the cell sees h itself. Without noise
    m = 1. For the connections between layers, `rnnjax.layers.Stack` has
    `dropout_broadcast_dims`.
    Source: Gal, Ghahramani 2016, "A theoretically grounded application of dropout in recurrent
    neural networks", arXiv:1512.05287, equation 7.

    Args:
        cell: a `Gated` cell, or `LayerNorm` around one.
        rate: the probability to drop a unit.

    Raises:
        TypeError: the cell is of another kind.
        ValueError: the rate is not within 0 <= rate < 1.
    """

    cell: Any
    rate: float

    def __post_init__(self):
        if not (is_gated(self.cell) or isinstance(self.cell, LayerNorm)):
            raise TypeError(
                f"VariationalDropout needs a Gated cell or LayerNorm around one, got "
                f"{type(self.cell).__name__}"
            )
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, got {self.rate}")

    def init(self, key: Array, input_size: int) -> Any:
        """Draw the cell's parameters."""
        return self.cell.init(key, input_size)

    def initial_carry(self, batch_shape: Sequence[int]) -> Any:
        """Return the cell's."""
        return self.cell.initial_carry(batch_shape)

    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Draw a mask for each sequence, the same at all its steps."""
        total, *batch = jax.tree.leaves(xs)[0].shape[:-1]
        h = jax.eval_shape(lambda: self.cell.initial_carry(tuple(batch)).h)
        mask = jax.random.bernoulli(key, 1 - self.rate, h.shape)
        return Noisy(xs, jnp.broadcast_to(mask, (total, *h.shape)))

    def project(self, params: Any, x: Any) -> Any:
        """Return the cell's input half, and the mask beside it."""
        x, noise = x if isinstance(x, Noisy) else (x, None)
        return self.cell.project(params, x), noise

    def step(self, params: Any, carry: Any, u: Any) -> Any:
        """Return `gates(params, carry, u, (h * m) U)`."""
        u, mask = u
        entering = carry
        if mask is not None:
            h = jnp.where(mask, carry.h / (1 - self.rate), 0).astype(carry.h.dtype)
            entering = carry._replace(h=h)
        v = self.cell.recur(params, entering)
        return self.cell.gates(self.cell.elementwise(params), carry, u, v)

    def output(self, carry: Any) -> Inexact[Array, "*batch H"]:
        """Return the cell's output."""
        return self.cell.output(carry)
