"""Reading what a run directory holds. A damaged file is an OSError of one line that names it."""

import csv
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.runs.atomic_files import read_regular

LARGEST_JSON = 2**26  # bytes
LARGEST_ROWS = 2**34
FORMULA = tuple("=+-@\t\r")  # what a spreadsheet takes for the start of a formula


def printable(text: str) -> str:
    """Return a text with its control characters escaped: a terminal would obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is damaged or cannot be read.
    """
    return _parse(read_regular(path, LARGEST_JSON), path)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, such as a configuration or a summary.

    Errors are those of `read_json`.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise OSError(f"{path} is damaged: it holds no JSON object")
    return value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file, without a last line that was cut off; errors as in `read_json`."""
    lines = read_regular(path, LARGEST_ROWS).split(b"\n")[:-1]
    rows = [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise OSError(f"{path}, line {i} is damaged: it holds no JSON object")
    return rows


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Read a CSV file as columns: float64 if all entries are numbers, strings otherwise.

    Errors are those of `read_json`.
    """
    text = read_regular(path, LARGEST_ROWS)
    try:
        header, *rows = csv.reader(io.StringIO(text.decode(), newline=""), strict=True)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
        return {
            key: _column(list(map(without_guard, values)))
            for key, values in zip(header, columns, strict=True)
        }
    except (ValueError, csv.Error) as error:
        raise OSError(f"{path} is damaged: {error}") from error


def file_sum(path: Path) -> list[int]:
    """Return the size of a small file and its checksum; errors as in `read_json`."""
    data = read_regular(path, LARGEST_JSON)
    return [len(data), zlib.crc32(data)]


def with_guard(text: str) -> str:
    """Return a cell of a table with an apostrophe before what a spreadsheet would calculate."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def without_guard(text: str) -> str:
    """Return the cell that `with_guard` was given."""
    guarded = text.startswith("'") and text.lstrip("'").startswith(FORMULA)
    return text[1:] if guarded else text


def _parse(data, where):
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise OSError(f"{where} is damaged: {reason}") from error


def _column(values):
    try:
        return np.array([float(v) for v in values])
    except ValueError:
        return np.array(values)
