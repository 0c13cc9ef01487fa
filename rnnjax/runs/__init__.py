"""The run directory: configuration, metrics, tables, figures and results of one run.

`Run` is the one object that experiments use. The directory's layout is in
`rnnjax.runs.directory`.
"""

from rnnjax.runs.atomic_files import (
    arrays_from_bytes,
    arrays_to_bytes,
    read_arrays,
    write_arrays,
)
from rnnjax.runs.directory import Run
from rnnjax.runs.lock import LockedError, locked
from rnnjax.runs.reading import file_sum

__all__ = [
    "LockedError",
    "Run",
    "arrays_from_bytes",
    "arrays_to_bytes",
    "file_sum",
    "locked",
    "read_arrays",
    "write_arrays",
]
