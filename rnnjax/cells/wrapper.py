"""A cell around another cell, which hands on everything it does not change."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, Inexact

from rnnjax.cells.gated import GatedStep, is_gated


@dataclasses.dataclass(frozen=True)
class Wrapper(GatedStep):
    """A cell around another: abstract. It is gated where the inner cell is.

    Args:
        cell: the inner cell.
    """

    cell: Any

    @property
    def gate_names(self) -> tuple[str, ...]:
        """The inner cell's gates."""
        return self.cell.gate_names

    @property
    def dtype(self) -> Any:
        """The inner cell's type of products."""
        return self.cell.dtype

    @property
    def gated(self) -> bool:
        """Whether the inner cell is gated, and no subclass overrides `step`."""
        return type(self).step is GatedStep.step and is_gated(self.cell)

    def without_initialisers(self) -> Any:
        """Return the wrapper around the inner cell without its initialisers."""
        return dataclasses.replace(self, cell=self.cell.without_initialisers())

    def input_shape(self, input_size: int) -> tuple[int, ...]:
        """Return the shape of the inner cell's input."""
        return self.cell.input_shape(input_size)

    def init(self, key: Array, input_size: int) -> Any:
        """Draw the inner cell's parameters."""
        return self.cell.init(key, input_size)

    def prepare(self, params: Any) -> Any:
        """Return the inner cell's effective parameters."""
        return self.cell.prepare(params)

    def initial_carry(self, batch_shape: Sequence[int]) -> Any:
        """Return the inner cell's initial carry."""
        return self.cell.initial_carry(batch_shape)

    def recurrent_input(self, carry: Any, u: Any) -> Inexact[Array, "*batch K"]:
        """Return what the inner cell multiplies."""
        return self.cell.recurrent_input(carry, u)

    def recurrent_kernel(self, ready: Any) -> Array:
        """Return the inner cell's U."""
        return self.cell.recurrent_kernel(ready)

    def elementwise(self, ready: Any) -> Any:
        """Return what the inner cell's `gates` takes of the parameters."""
        return self.cell.elementwise(ready)

    def output(self, carry: Any) -> Inexact[Array, "*batch H"]:
        """Return the inner cell's output."""
        return self.cell.output(carry)
