"""Deep and bidirectional networks of one cell, each in one line."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Array

from rnnjax.cells.base import Cell, check_size
from rnnjax.layers.composed import Bidirectional, Stack, concatenate
from rnnjax.layers.recurrent import RNN


def bidirectional(
    cell: Cell, *, merge_fn: Callable[[Array, Array], Array] = concatenate, **options: Any
) -> Bidirectional:
    """Return a cell read in both directions, batch-major: `[*batch, T, D]` to `[*batch, T, 2H]`.

        bidirectional(cell) = Bidirectional(RNN(cell), RNN(cell))

    The two directions have parameters of their own.

    Args:
        cell: any `rnnjax.Cell`.
        merge_fn: as in `Bidirectional`.
        options: those of `RNN`, for both directions.
    """
    return Bidirectional(RNN(cell, **options), RNN(cell, **options), merge_fn)


def deep(
    cell: Cell,
    num_layers: int,
    *,
    bidirectional: bool = False,
    merge_fn: Callable[[Array, Array], Array] = concatenate,
    residual: bool = False,
    dropout_rate: float = 0.0,
    dropout_broadcast_dims: Sequence[int] = (),
    **options: Any,
) -> Stack:
    """Return layers of one cell on top of each other, batch-major: `[*batch, T, D]` to `[.., H]`.

        deep(cell, 3) = Stack([RNN(cell), RNN(cell), RNN(cell)])

    Each layer has parameters of its own. With `bidirectional` each is `Bidirectional`, so that
    every layer reads the merged outputs of both directions below it.

        network = layers.deep(LSTM(64), num_layers=3, bidirectional=True, dropout_rate=0.2)

    Args:
        cell: any `rnnjax.Cell`.
        num_layers: L.
        bidirectional: whether each layer has two directions.
        merge_fn: as in `Bidirectional`.
        residual, dropout_rate, dropout_broadcast_dims: as in `Stack`.
        options: those of `RNN`, for every layer and direction.

    Raises:
        ValueError: `num_layers` is not a positive integer.
    """
    check_size("num_layers", num_layers)

    def layer():
        return _both(cell, merge_fn=merge_fn, **options) if bidirectional else RNN(cell, **options)

    return Stack(
        [layer() for _ in range(num_layers)], residual, dropout_rate, dropout_broadcast_dims
    )


_both = bidirectional
