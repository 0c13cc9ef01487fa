"""What a process leaves behind that is killed: its directory before each change that it makes."""

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}
_lock = threading.RLock()
_watched: list = []


@contextlib.contextmanager
def moments(directory: Path, into: Path):
    """Give a list that fills with copies of a directory, one before each change to it.

    Python's threads wait while it is copied, so each copy is what a kill would leave.
    """
    if not _watched:
        sys.addaudithook(_seen)
    copies: list[Path] = []
    with _lock:
        _watched[:] = [str(directory), into, copies]
    try:
        yield copies
    finally:
        with _lock:
            _watched[:] = [None, into, copies]


def _seen(event, arguments):
    if event not in CHANGES or _watched[0] is None:
        return
    if not isinstance(arguments[0], str | Path) or not str(arguments[0]).startswith(_watched[0]):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return
    with _lock:
        directory, into, copies = _watched
        if directory is not None and os.path.isdir(directory):
            copy = into / f"{len(copies):04}"
            with contextlib.suppress(shutil.Error):  # a file of a library's own thread has gone
                shutil.copytree(directory, copy, symlinks=True)
            copies.append(copy)
