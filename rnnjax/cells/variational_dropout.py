"""Dropout of recurrent connections with one mask for all time, around a gated cell."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rnnjax.cells.base import Noisy, Stochastic
from rnnjax.cells.gated import is_gated
from rnnjax.cells.kernels import width
from rnnjax.cells.wrapper import Wrapper


@dataclasses.dataclass(frozen=True)
class VariationalDropout(Wrapper, Stochastic):
    """v = (h * m) U,  m = Bernoulli(1 - rate) / (1 - rate), drawn once for each unit and sequence.

    The mask is the same at every step; the elementwise part of the cell sees h itself. Without
    noise m = 1. For the connections between layers, `rnnjax.layers.Stack` has
    `dropout_broadcast_dims`.
    Source: Gal, Ghahramani 2016, "A theoretically grounded application of dropout in recurrent
    neural networks", arXiv:1512.05287, equation 7.

    Args:
        cell: a gated cell: a `Gated` one, or a wrapper around one.
        rate: the probability to drop a unit.

    Raises:
        TypeError: the cell is not gated.
        ValueError: the rate is not within 0 <= rate < 1.
    """

    rate: float

    def __post_init__(self):
        if not is_gated(self.cell):
            raise TypeError(
                f"VariationalDropout needs a Gated cell or a wrapper around one, got "
                f"{type(self.cell).__name__}"
            )
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1, got {self.rate}")

    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Draw a mask for each sequence, the same at all its steps."""
        shape = jax.tree.leaves(xs)[0].shape
        total, *batch = shape[: len(shape) - len(self.input_shape(1))]
        if isinstance(self.cell, Stochastic):
            key, inner = jax.random.split(key)
            xs = self.cell.with_noise(inner, xs)
        kernel = jax.eval_shape(
            lambda key: self.recurrent_kernel(self.prepare(self.init(key, 1))), jax.random.key(0)
        )
        shape = *batch, width(kernel, len(self.gate_names))
        mask = jax.random.bernoulli(key, 1 - self.rate, shape)
        return Noisy(xs, jnp.broadcast_to(mask, (total, *shape)))

    def project(self, ready: Any, x: Any) -> tuple[Any, Any]:
        """Return the cell's input half, and the mask beside it."""
        x, mask = x if isinstance(x, Noisy) else (x, None)
        return self.cell.project(ready, x), mask

    def recurrent_input(self, carry: Any, u: tuple[Any, Any]) -> Inexact[Array, "*batch K"]:
        """Return what the cell multiplies, masked."""
        u, mask = u
        a = self.cell.recurrent_input(carry, u)
        return a if mask is None else jnp.where(mask, a / (1 - self.rate), 0).astype(a.dtype)

    def gates(self, params: Any, carry: Any, u: tuple[Any, Any], v: tuple[Array, ...]) -> Any:
        """Return the next carry, the cell's own arithmetic."""
        return self.cell.gates(params, carry, u[0], v)
