"""Sizes and checksums of the files of a checkpoint, by which damage is found."""

import json
import zlib
from pathlib import Path

NAME = "files.json"
"""The file of a saved tree that holds the sums of its other files."""
LARGEST = 2**24
"""Size in bytes up to which a file's checksum is computed; of larger files only the size counts."""


def file_sums(directory: Path) -> dict[str, list[int]]:
    """Return the size and checksum of each file in a directory by its relative path."""
    return {
        path.relative_to(directory).as_posix(): [
            path.stat().st_size,
            zlib.crc32(path.read_bytes()) if path.stat().st_size <= LARGEST else 0,
        ]
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / NAME
    }


def read_sums(path: Path) -> dict[str, list[int]]:
    """Read sums that were written as JSON; empty if the file is missing or damaged."""
    try:
        return dict(json.loads(path.read_bytes())) if path.is_file() else {}
    except (OSError, RecursionError, TypeError, ValueError):
        return {}


def write_sums(path: Path, directory: Path) -> None:
    """Write the sums of the files in a directory as JSON; the file is complete or absent."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(file_sums(directory)))
    unfinished.replace(path)
