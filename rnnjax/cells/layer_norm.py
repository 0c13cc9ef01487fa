"""Layer normalisation inside the recurrence, around any gated cell."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from rnnjax.cells.base import Cell, is_gated


class LayerNormParams(NamedTuple):
    """Parameters of a normalised cell; the cell's own bias is the shift."""

    cell: Any
    input_scale: Any  # [G*H]
    recurrent_scale: Any  # [G*H]


@dataclasses.dataclass(frozen=True)
class LayerNorm(Cell):
    """u = a_x * n(x W) + b,  v = a_h * n(h U),  s' = gates(s, u, v),  n(a) = (a - mean) / sd.

    Mean and variance are taken over all G*H entries of an example, at every step anew, and the
    scales a_x, a_h `[G*H]` start at one. What is elementwise stays as it is in the cell; the
    paper's LSTM also normalises c' on its way to the output.
    Source: Ba, Kiros, Hinton 2016, "Layer normalization", arXiv:1607.06450, equations 20-21
    (the LSTM) and 22-25 (the GRU, whose candidate the paper normalises by itself).

    Args:
        cell: a `Gated` cell.
        epsilon: added to the variance.

    Raises:
        TypeError: the cell's recurrent half is not one matmul and then elementwise.
    """

    cell: Any
    epsilon: float = 1e-5

    def __post_init__(self):
        if not is_gated(self.cell):
            raise TypeError(f"LayerNorm needs a Gated cell, got {type(self.cell).__name__}")

    def init(self, key: Array, input_size: int) -> LayerNormParams:
        """Draw the cell's parameters; the scales are one."""
        params = self.cell.init(key, input_size)
        ones = jnp.ones_like(params.bias)
        return LayerNormParams(params, ones, ones)

    def initial_carry(self, batch_shape: Sequence[int]) -> Any:
        """Return the cell's."""
        return self.cell.initial_carry(batch_shape)

    def project(self, params: LayerNormParams, x: Array) -> tuple[Array, ...]:
        """Return `a_x * n(x W) + b`, split by gate."""
        bias = params.cell.bias
        u = self.cell.project(params.cell._replace(bias=jnp.zeros_like(bias)), x)
        return self.cell.split(self._normalised(u) * params.input_scale + bias)

    def recur(self, params: LayerNormParams, carry: Any) -> tuple[Array, ...]:
        """Return `a_h * n(h U)`, split by gate."""
        v = self.cell.recur(params.cell, carry)
        return self.cell.split(self._normalised(v) * params.recurrent_scale)

    def gates(self, params: Any, carry: Any, u: tuple[Array, ...], v: tuple[Array, ...]) -> Any:
        """Return the next carry, the cell's own arithmetic."""
        return self.cell.gates(params, carry, u, v)

    def elementwise(self, params: LayerNormParams) -> Any:
        """Return what `gates` gets of the parameters."""
        return self.cell.elementwise(params.cell)

    def step(self, params: LayerNormParams, carry: Any, u: tuple[Array, ...]) -> Any:
        """Return `gates(params, carry, u, recur(params, carry))`."""
        return self.gates(self.elementwise(params), carry, u, self.recur(params, carry))

    def output(self, carry: Any) -> Inexact[Array, "*batch H"]:
        """Return the cell's output."""
        return self.cell.output(carry)

    def _normalised(self, blocks):
        packed = jnp.concatenate(blocks, axis=-1)
        packed = packed - packed.mean(-1, keepdims=True)
        return packed * lax.rsqrt(jnp.square(packed).mean(-1, keepdims=True) + self.epsilon)
