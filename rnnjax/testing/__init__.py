"""Tests for the authors of cells: `check_cell`, and the Python loop that `unroll` must equal."""

from rnnjax.testing.check_cell import check_cell
from rnnjax.testing.comparing import CellError
from rnnjax.testing.python_loop import python_loop

__all__ = ["CellError", "check_cell", "python_loop"]
