"""The idx format of MNIST and its successors."""

import gzip
from pathlib import Path

import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """Return the array in a gzipped idx file of unsigned bytes.

    The format: two zeros, the type 8, the number of axes, the axes as 32-bit integers, the data.

    Raises:
        ValueError: the file is not in this format.
    """
    with gzip.open(path, "rb") as file:
        data = file.read()
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of bytes")
    start = 4 * (1 + data[3])
    shape = np.frombuffer(data[4:start], ">i4")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
