"""The run directory: configuration, metrics and results, written once and read back."""

from rnnjax.runs.directory import LockedError, Run, locked, read_arrays, write_arrays

__all__ = ["LockedError", "Run", "locked", "read_arrays", "write_arrays"]
