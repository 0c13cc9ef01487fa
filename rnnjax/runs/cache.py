"""Results that are computed once per run, so that a resumed run does not compute them again."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.runs.atomic_files import read_arrays, write_arrays


def cached_arrays(
    path: Path, compute: Callable[[], Mapping[str, Any]], *, read: bool, write: bool
) -> dict[str, np.ndarray]:
    """Return the arrays in a file, or compute them and write them to it.

    Args:
        path: of the file. A file that is missing or damaged is computed again.
        compute: returns arrays or numbers by name.
        read: whether a file from an earlier process may be used.
        write: whether this process writes the file.
    """
    if read:
        with contextlib.suppress(OSError):
            return read_arrays(path)
    found = {name: np.asarray(value) for name, value in compute().items()}
    if write:
        write_arrays(path, found)
    return found
