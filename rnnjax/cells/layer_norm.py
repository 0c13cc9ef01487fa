"""Layer normalisation inside the recurrence, around any gated cell."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from rnnjax.cells.gated import Gated, is_gated
from rnnjax.cells.wrapper import Wrapper


class LayerNormParams(NamedTuple):
    """Parameters of a normalised cell; the cell's own bias is the shift."""

    cell: Any
    input_scale: Any  # [G*H]
    recurrent_scale: Any  # [G*H]


@dataclasses.dataclass(frozen=True)
class LayerNorm(Wrapper):
    """u = a_x * n(x W) + b,  v = a_h * n(h U),  s' = gates(s, u, v),  n(a) = (a - mean) / sd.

    Mean and variance are taken over all G*H entries of an example, separately at every step, and
    the scales a_x, a_h `[G*H]` start at one. The elementwise part of the cell stays as it is; the
    paper's LSTM also normalises c' on its way to the output.
    Source: Ba, Kiros, Hinton 2016, "Layer normalization", arXiv:1607.06450, equations 20-21
    (the LSTM) and 22-25 (the GRU, whose candidate the paper normalises by itself).

    Args:
        cell: a `Gated` cell.
        epsilon: added to the variance.

    Raises:
        TypeError: the cell is not `Gated`, or overrides its `step`; or (from `init` and `project`)
            it has no `bias`, or other inputs than one block for each gate.
    """

    epsilon: float = 1e-5

    def __post_init__(self):
        if not (isinstance(self.cell, Gated) and is_gated(self.cell)):
            raise TypeError(f"LayerNorm needs a Gated cell, got {type(self.cell).__name__}")

    def init(self, key: Array, input_size: Any) -> LayerNormParams:
        """Draw the cell's parameters; the scales are one."""
        params = self.cell.init(key, input_size)
        if not isinstance(getattr(params, "bias", None), Array):
            raise TypeError(
                f"LayerNorm needs a cell with a parameter `bias`; {type(self.cell).__name__} has "
                "none"
            )
        ones = jnp.ones_like(params.bias)
        return LayerNormParams(params, ones, ones)

    def prepare(self, params: LayerNormParams) -> LayerNormParams:
        """Return the parameters with the cell's effective ones."""
        return params._replace(cell=self.cell.prepare(params.cell))

    def project(self, ready: LayerNormParams, x: Array) -> tuple[Array, ...]:
        """Return `a_x * n(x W) + b`, split by gate."""
        bias = ready.cell.bias
        u = self.cell.project(ready.cell._replace(bias=jnp.zeros_like(bias)), x)
        if len(u) != len(self.gate_names):
            raise TypeError(
                f"LayerNorm needs a cell whose inputs are one block for each gate; those of "
                f"{type(self.cell).__name__} are {len(u)} for {len(self.gate_names)} gates"
            )
        scales, shifts = self.split(ready.input_scale), self.split(bias)
        normal = zip(self._normalised(u), scales, shifts, strict=True)
        return tuple(n * scale + shift for n, scale, shift in normal)

    def recurrent_kernel(self, ready: LayerNormParams) -> Array:
        """Return the cell's U."""
        return self.cell.recurrent_kernel(ready.cell)

    def elementwise(self, ready: LayerNormParams) -> LayerNormParams:
        """Return what the cell's `gates` takes, and a_h split by gate."""
        scales = self.split(ready.recurrent_scale)
        return LayerNormParams(self.cell.elementwise(ready.cell), None, scales)

    def gates(
        self, params: LayerNormParams, carry: Any, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> Any:
        """Return `gates(s, u, a_h * n(v))`, the cell's own arithmetic."""
        normal = zip(self._normalised(v), params.recurrent_scale, strict=True)
        v = tuple(n * scale for n, scale in normal)
        return self.cell.gates(params.cell, carry, u, v)

    def _normalised(self, blocks: Sequence[Array]) -> list[Array]:
        """Return the blocks with the mean and the variance of all of them removed."""
        mean = _mean(blocks)
        blocks = [block - mean for block in blocks]
        scale = lax.rsqrt(_mean([jnp.square(block) for block in blocks]) + self.epsilon)
        return [block * scale for block in blocks]


def _mean(blocks):
    """Return the mean over the features of all blocks, which are equally wide."""
    total: Any = sum(blocks[1:], blocks[0])  # one sum along the features, which is slow on a CPU
    return total.mean(-1, keepdims=True) / len(blocks)
