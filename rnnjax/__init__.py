"""rnnjax: recurrent networks in JAX, and what gradients do on their way through them."""

import importlib
from typing import TYPE_CHECKING

from rnnjax.interrupts import end_quietly, own_program

if own_program():
    end_quietly()  # before anything slow is imported

from rnnjax import (
    cells,
    decoding,
    diagnostics,
    dynamics,
    initializers,
    online,
    regularizers,
    tasks,
    testing,
)
from rnnjax.cells import GRU, LSTM, Cell, Elman, Gated, Linear
from rnnjax.recurrence.newton import unroll_newton
from rnnjax.recurrence.parallel import unroll_parallel
from rnnjax.recurrence.sequential import unroll

if TYPE_CHECKING:
    from rnnjax import interop, layers, models, word_vectors

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "Cell",
    "Elman",
    "Gated",
    "Linear",
    "cells",
    "decoding",
    "diagnostics",
    "dynamics",
    "initializers",
    "interop",
    "layers",
    "models",
    "online",
    "regularizers",
    "tasks",
    "testing",
    "unroll",
    "unroll_newton",
    "unroll_parallel",
    "word_vectors",
]

_LATE = "interop", "layers", "models", "word_vectors"  # imported when they are first used


def __getattr__(name: str):
    if name in _LATE:
        return importlib.import_module(f"rnnjax.{name}")
    raise AttributeError(f"module 'rnnjax' has no attribute {name!r}")
