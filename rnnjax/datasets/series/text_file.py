"""A user's own series, from a text or CSV file."""

import csv
import math
import os
from pathlib import Path

import numpy as np

from rnnjax.datasets.series.loader import Series
from rnnjax.datasets.series.sources import LIMITS


def read_file(path: str | os.PathLike) -> Series:
    """Read a series from a text file: one number per line, or a CSV file with a header.

    A CSV file needs a column Close or Value; Low and High are read if both exist. Lines are in
    chronological order. Dates are not read: those of the result are NaT.

    Raises:
        ValueError: there are no numbers, the column is missing, or a line has no finite number in
            it; the message is one line.
        OSError: the file cannot be read.
    """
    try:
        lines = list(csv.reader(Path(path).read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file") from None
    rows = [(number, row) for number, row in enumerate(lines, 1) if row]
    names = ["value"]
    if rows and (len(rows[0][1]) > 1 or not _is_number(rows[0][1][0])):
        names = [name.strip().lower() for name in rows.pop(0)[1]]
    if not {"close", "value"} & {*names}:
        raise ValueError(f"{path} needs one number a line, or a header with Close or Value")
    if not rows:
        raise ValueError(f"{path} holds no numbers")

    def column(name):
        return np.array([_finite(path, line, row, names.index(name)) for line, row in rows])

    values = column("close" if "close" in names else "value")
    low, high = (column(name) if {"low", "high"} <= {*names} else values[:0] for name in LIMITS)
    return Series(np.full(len(values), "NaT", "datetime64[D]"), values, low, high)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finite(path, line, row, place):
    text = row[place].strip() if place < len(row) else ""
    if not _is_number(text) or not math.isfinite(float(text)):
        raise ValueError(f"{path}, line {line}: a finite number is needed, got {text!r}")
    return float(text)
