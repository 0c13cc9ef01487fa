"""Tests for the authors of cells."""

from rnnjax.testing.check_cell import CellError, check_cell, python_loop

__all__ = ["CellError", "check_cell", "python_loop"]
