"""Files that are complete or absent: replaced as a whole, or extended by whole lines.

A process may be killed, or the disk may fill up, at any moment. `replace_file` and `write_arrays`
write to a temporary file beside the target and rename it, so the old content stays until the new
content is complete. `append_lines` starts on a new line if the last write was cut off. Nothing is
flushed with `fsync`: if the machine itself stops, the file system decides what is left.

No file is written through a symbolic link, and none is read or written that is not a regular file:
a pipe would keep the process waiting for ever.
"""

import contextlib
import errno
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_ARRAYS = 2**40  # bytes
NOT_REGULAR = "it is not a regular file"
REASONS = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: NOT_REGULAR}


@contextlib.contextmanager
def explain_errors(path: str | Path) -> Iterator[None]:
    """Turn an OSError of the system into one whose message names the file and the reason."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # the message has been written already
            raise
        reason = REASONS.get(error.errno or 0, error.strerror)
        raise type(error)(f"cannot write to {path}: {reason}") from error


def open_regular(path: Path, flags: int) -> int:
    """Return the descriptor of a regular file; if it is to be written, no link is followed.

    Raises:
        OSError: the path is that of a link (`errno.ELOOP`), or of something else, such as a folder.
    """
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    descriptor = os.open(
        path, flags | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if writes else 0), 0o666
    )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return descriptor


def read_regular(path: Path, largest: int) -> bytes:
    """Return the bytes of a regular file of at most `largest` bytes.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is larger, or not a regular file, or cannot be read; the message says why.
    """
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= largest else b""
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {path}") from error
    except OSError as error:
        raise type(error)(f"cannot read {path}: {error.strerror}") from error
    if size > largest:
        raise OSError(f"{path} is damaged: it has more than {largest} bytes")
    return data


def temporary_path(path: Path) -> Path:
    """Return the path of the temporary file that `replace_file` writes first."""
    return path.with_name(f".{path.name}.unfinished")


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a whole file; the old content stays until the new content is complete.

    Raises:
        OSError: the file cannot be written; the message says why.
    """
    temporary = temporary_path(path)
    try:
        with explain_errors(path):
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(open_regular(temporary, flags), "wb", buffering=0) as file:
                _write_all(file, content.encode() if isinstance(content, str) else content)
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def append_lines(path: Path, lines: str) -> None:
    """Append whole lines, on a new line if the last line of the file was cut off.

    Raises:
        OSError: the file cannot be written; the message says why.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    with explain_errors(path), open(open_regular(path, flags), "a+b", buffering=0) as file:
        cut_off = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0
        cut_off = cut_off and file.read(1) != b"\n"
        _write_all(file, b"\n" * cut_off + lines.encode())


def write_at(path: Path, position: int, data: bytes) -> None:
    """Make a file hold `data` at a position.

    If the file holds the same bytes there, it stays as it is, with all that follows. Otherwise it
    is cut at the position, and `data` is appended.

    Raises:
        OSError: the file cannot be written; the message says why.
    """
    flags = os.O_RDWR | os.O_CREAT
    with explain_errors(path), open(open_regular(path, flags), "r+b", buffering=0) as file:
        file.seek(position)
        if file.read(len(data)) != data:
            file.seek(position)
            file.truncate()
            _write_all(file, data)


def cut_at(path: Path, position: int) -> None:
    """Cut a file at a position.

    Raises:
        OSError: the file cannot be written; the message says why.
    """
    with explain_errors(path), open(open_regular(path, os.O_RDWR), "r+b") as file:
        file.truncate(position)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name to a NumPy archive followed by a checksum; its folder is created.

    Raises:
        OSError: the file cannot be written; the message says why.
    """
    data = arrays_to_bytes(arrays)
    with explain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays that `write_arrays` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is damaged.
    """
    data = read_regular(path, LARGEST_ARRAYS)
    try:
        return arrays_from_bytes(data)
    except ValueError as error:
        raise OSError(f"{path} is damaged") from error


def arrays_to_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Return arrays by name as a NumPy archive followed by a checksum; nothing is pickled.

    Raises:
        TypeError: an array holds Python objects.
    """
    data, stored = io.BytesIO(), {}
    for name, array in arrays.items():
        array, kind = np.asarray(array), ""
        if array.dtype.kind == "V":  # bfloat16 and similar types, which NumPy's files do not store
            array, kind = array.view(f"u{array.itemsize}"), array.dtype.name
        if array.dtype.hasobject:
            raise TypeError(f"{name} must hold numbers or texts, got Python objects")
        stored[f"{kind}:{name}"] = array
    np.savez(data, **stored)
    return data.getvalue() + _checksum(data.getvalue())


def arrays_from_bytes(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of `arrays_to_bytes`.

    Raises:
        ValueError: the bytes do not have their checksum, or are no arrays.
    """
    if _checksum(data[:-4]) != data[-4:]:
        raise ValueError("the checksum differs")
    found = {}
    try:
        with np.load(io.BytesIO(data[:-4]), allow_pickle=False) as file:
            for stored_name in file.files:
                kind, _, name = stored_name.partition(":")
                found[name] = file[stored_name].view(kind) if kind else file[stored_name]
    except (AttributeError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"they are no arrays: {error}") from error
    return found


def _checksum(data):
    return zlib.crc32(data).to_bytes(4, "little")


def _write_all(file, data):
    """Write all of the data; one call of `write` may take only a part of it."""
    while data:
        data = data[file.write(data) :]
