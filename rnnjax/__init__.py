"""rnnjax: recurrent networks in JAX, and what gradients do on their way through them."""

from rnnjax import cells, diagnostics, regularizers, tasks, testing
from rnnjax.cells import GRU, LSTM, Cell, Elman, Gated
from rnnjax.unroll import unroll

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "Cell",
    "Elman",
    "Gated",
    "cells",
    "diagnostics",
    "regularizers",
    "tasks",
    "testing",
    "unroll",
]
