"""The lock of a run directory: one process at a time writes there."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from rnnjax.runs.atomic_files import explain_errors, open_regular, read_regular
from rnnjax.runs.overwriting import LOCK
from rnnjax.runs.reading import printable


class LockedError(Exception):
    """Another process writes to the run directory; the message names that process."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing to a run directory, which is created if needed.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
        LockedError: another process holds the lock.
        FileExistsError: `path` is a file.
        OSError: the directory cannot be created or written to; the message says why.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; give a directory")
    with explain_errors(path):
        file = _acquire(path / LOCK)
    try:
        with explain_errors(path):
            file.write(f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        # The file is removed while the lock is held; the next process creates another file.
        (path / LOCK).unlink(missing_ok=True)
        file.close()
        with contextlib.suppress(OSError):  # the directory is not empty
            path.rmdir()


def _acquire(path):
    """Return the locked file; try again if another process removes it or its directory."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            file = open(open_regular(path, flags), "ab", buffering=0)  # noqa: SIM115
        except FileNotFoundError:  # another process rolled its run back and removed the directory
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                file.truncate(0)
                return file
        except BlockingIOError:
            file.close()
            raise LockedError(
                f"{path.parent} is being written to by process {_holder(path)}; wait until it has "
                "finished, or give another directory"
            ) from None
        except FileNotFoundError:  # removed between `exists` and `stat`
            pass
        file.close()


def _holder(path):
    """Return what the process that holds the lock has written: its number and its host."""
    try:
        text = read_regular(path, 1000).decode(errors="replace").strip()
    except OSError:
        text = ""
    return printable(text) or "unknown"
