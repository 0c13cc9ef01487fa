"""Numbers as text: JSON values, JSON lines, CSV and Parquet tables.

A float32 is written as the shortest decimal that reads back as the same float32. Numbers that are
not finite are NaN, Infinity and -Infinity in JSON, as Python writes and reads them (JSON itself has
none, so other readers may refuse them), and nan, inf and -inf in tables. In tables, a text that a
spreadsheet would take for a formula has an apostrophe before it. What is written here,
`rnnjax.runs.reading` reads.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnnjax.runs.reading import with_guard


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON and a line break; arrays and tuples become lists, paths strings.

    Raises:
        TypeError: the value is not a number, a string, a path, an array, or a collection of these.
    """
    return json.dumps(value, default=plain_value, indent=indent) + "\n"


def plain_value(value: Any) -> Any:
    """Return a path as a string, and a number or array of NumPy or JAX as Python numbers.

    Raises:
        TypeError: the value is none of these.
    """
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, np.ndarray | np.generic | jax.Array):
        raise TypeError(f"cannot write {value!r} ({type(value).__name__}) to a run")
    value = np.asarray(value)
    if value.dtype == np.float32:
        value = value.astype(str).astype(np.float64)
    return value.tolist()


def metric_rows(
    labels: Mapping[str, Any], seeds: Sequence[Any], chunk: Any, every: int
) -> list[dict[str, Any]]:
    """Return one row for each recorded step and seed of a chunk: see `Run.append_metrics`."""
    rows, names = [], list(chunk.metrics)
    for index, values in enumerate(zip(*chunk.metrics.values(), strict=True)):
        step = chunk.first_step + index
        if step % every == 0:
            rows += [
                {**labels, "seed": seed, "step": step, **dict(zip(names, own, strict=True))}
                for seed, count, *own in zip(seeds, chunk.counts, *values, strict=True)
                if index < count
            ]
    return rows


def csv_text(name: str, parts: Sequence[Mapping[str, Any]]) -> str:
    """Return the parts of a table, one below the other, as CSV.

    Raises:
        ValueError: there are no columns, or the parts have different ones.
    """
    header = list(parts[0]) if parts else []
    if not header:
        raise ValueError(f"table {name} needs columns")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for part in parts:
        if part.keys() != set(header):
            raise ValueError(f"table {name}: all parts need columns {header}, got {[*part]}")
        columns = np.broadcast_arrays(*(np.atleast_1d(part[key]) for key in header))
        writer.writerows(zip(*map(_cells, columns), strict=True))
    return text.getvalue()


def parquet_bytes(columns: Mapping[str, Any]) -> bytes:
    """Return columns of equal length as a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({key: pyarrow.array(column) for key, column in columns.items()})
    content = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, content)
    return content.getvalue().to_pybytes()


def _cells(column):
    """Return a column of a table as a list of numbers and texts."""
    values = plain_value(column)
    if column.dtype.kind in "biufc":
        return values
    return [with_guard(value) if isinstance(value, str) else value for value in values]
