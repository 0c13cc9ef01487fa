"""Cells: one file each, pure JAX. A cell of your own needs no entry here."""

from rnnjax.cells import initializers
from rnnjax.cells.base import Cell, Gated, GatedParams
from rnnjax.cells.elman import Elman, ElmanCarry, identity
from rnnjax.cells.gru import GRU, GRUCarry, GRUParams
from rnnjax.cells.lstm import LSTM, LSTMCarry

__all__ = [
    "GRU",
    "LSTM",
    "Cell",
    "Elman",
    "ElmanCarry",
    "GRUCarry",
    "GRUParams",
    "Gated",
    "GatedParams",
    "LSTMCarry",
    "identity",
    "initializers",
]
