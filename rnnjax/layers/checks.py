"""Whether what a layer is made of are layers: a cell in place of one is a common slip."""

from typing import Any

import flax.linen as nn

from rnnjax.cells.base import Cell


def check_layers(**layers: Any) -> None:
    """Check that each of the named arguments is a Flax module.

    Raises:
        TypeError: one is something else; the message says what to write.
    """
    for name, value in layers.items():
        kind = type(value).__name__
        if isinstance(value, Cell):
            raise TypeError(f"{name} must be a layer, got the cell {kind}; write RNN({kind}(...))")
        if not isinstance(value, nn.Module):
            raise TypeError(f"{name} must be a layer, such as RNN(cell), got {value!r}")
