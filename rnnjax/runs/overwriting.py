"""Replacing the run in a directory: only files that a run wrote are moved or deleted.

No finished run is lost before the one that overwrites it is finished. An unfinished run that was
itself overwriting another is deleted if it is overwritten in turn; the other one stays.

The file .rnnjax lists what a run wrote. Overwriting moves these files to the folder .replaced, and
the list last. They are deleted when the new run is finished, and moved back if the new run is
rolled back. A process may be killed between any two of these steps; `recover` finishes them or
undoes them, so that there is always one whole run in its place.

A finished run is moved with `.finished` first and moved back with it last. So a run that is marked
as finished is whole, and whatever is in .replaced beside it is no longer needed.
"""

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from rnnjax.runs.atomic_files import read_regular, temporary_path

WRITTEN, REPLACED, DISCARDED = ".rnnjax", ".replaced", ".discarded"
FINISHED, HISTORY, LOCK = ".finished", ".history", ".lock"
HIDDEN = FINISHED, HISTORY  # names with a dot that a run lists as its own
PROTECTED = (
    *("config.json", "metrics.jsonl", "times.jsonl", "summary.json", "stopped.jsonl"),
    *("training", "stopped", *HIDDEN),
)
"""Files and folders that are never overwritten unless a run wrote them."""
LARGEST_LIST = 2**20  # bytes


def is_own_name(name: str) -> bool:
    """Return whether a run may list a name as its own: that of a file in its directory."""
    single = name not in ("", os.curdir, os.pardir) and not {"/", "\0", "\n"} & {*name}
    return single and (name in HIDDEN or not name.startswith("."))


def check_own(path: Path, name: str) -> None:
    """Check a name that a run is about to write to its directory.

    Raises:
        ValueError: it is not the name of a file in the directory.
        FileExistsError: there is a symbolic link of that name.
    """
    if not is_own_name(name):
        raise ValueError(f"a run cannot write {name!r}: it is not the name of a file within it")
    if (path / name).is_symlink():
        raise FileExistsError(_link(path / name))


def written_files(path: Path, listed: str = WRITTEN) -> list[str]:
    """Return the names of the files and folders that a run wrote to a directory.

    A line that is not such a name, as a write that was cut off leaves one, is passed over.

    Raises:
        OSError: the list is damaged; the message says how.
    """
    file = path / listed
    try:
        lines = read_regular(file, LARGEST_LIST).decode().split("\n")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise OSError(f"{file} is damaged: {error}") from error
    return [name for name in lines if is_own_name(name)]


def holds_something(path: Path) -> bool:
    """Return whether anything is there that a run wrote to a directory."""
    return any(os.path.lexists(path / name) for name in written_files(path))


def refuse_links(path: Path) -> None:
    """Raise an OSError if something that a run writes is a symbolic link: nothing follows it."""
    for name in (WRITTEN, REPLACED, DISCARDED, LOCK):
        if (path / name).is_symlink():
            raise FileExistsError(_link(path / name))
    for name in dict.fromkeys((*written_files(path), *PROTECTED)):
        top = path / name
        for entry in (top, *(Path(d) / n for d, ds, fs in os.walk(top) for n in (*ds, *fs))):
            if entry.is_symlink():
                raise FileExistsError(_link(entry))


def recover(path: Path) -> None:
    """Finish or undo what a killed process left half done.

    Raises:
        OSError: something is a symbolic link, or cannot be moved or removed; or there is a list of
            what is to be deleted beside a run, which no process leaves.
    """
    refuse_links(path)
    beside = [name for name in (WRITTEN, FINISHED) if os.path.lexists(path / name)]
    if os.path.lexists(path / DISCARDED) and beside:
        raise FileExistsError(
            f"{path} holds {DISCARDED} and {beside[0]}, and no process leaves both; remove "
            f"{DISCARDED}, or give another directory"
        )
    _delete_listed(path, DISCARDED)
    replaced = path / REPLACED
    if not replaced.exists():
        return
    if (path / WRITTEN).exists() and (path / FINISHED).exists():
        delete_replaced(path)  # all that was left to do
    elif not (replaced / WRITTEN).exists():
        _move_back(path)  # moving away was not completed
    elif not holds_something(path):
        (path / WRITTEN).unlink(missing_ok=True)  # the new run has not begun
        _move_back(path)


def move_away(path: Path, *, overwrite: bool) -> None:
    """Move the run in a directory, if there is one and it may be replaced, to .replaced.

    If that run is itself overwriting another and is not finished, it is deleted, and the other
    stays in .replaced.

    Raises:
        FileExistsError: `path` is a file; or holds a run, and `overwrite` is false; or holds one
            of the `PROTECTED` files, which no run wrote; or a symbolic link. Nothing has been
            changed.
        OSError: something cannot be moved or removed.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; give a directory")
    if not path.exists():
        return
    recover(path)
    written = written_files(path)
    if holds_something(path) and not overwrite:
        raise FileExistsError(f"{path} already holds a run; give another directory")
    for name in PROTECTED:
        if name not in written and os.path.lexists(path / name):
            raise FileExistsError(
                f"{path} holds a {name} that no run wrote; give another directory"
            )
    _remove_temporaries(path, written)
    replaced = path / REPLACED
    if replaced.exists():
        (path / WRITTEN).rename(path / DISCARDED)
        _delete_listed(path, DISCARDED)
        return
    for name in sorted(written, key=lambda name: name != FINISHED):
        if (path / name).exists():
            replaced.mkdir(exist_ok=True)
            (path / name).rename(replaced / name)
    if replaced.exists():
        (path / WRITTEN).rename(replaced / WRITTEN)
    (path / WRITTEN).unlink(missing_ok=True)


def put_back(path: Path) -> None:
    """Remove a run that holds only config.json, and move the run that it replaced back.

    The directory is removed if it is empty afterwards.
    """
    for name in ("config.json", WRITTEN):
        (path / name).unlink()
    if (path / REPLACED).exists():
        _move_back(path)
    with contextlib.suppress(OSError):  # the directory holds something else
        path.rmdir()


def delete_replaced(path: Path) -> None:
    """Delete the run that was replaced."""
    if (path / REPLACED).exists():
        shutil.rmtree(path / REPLACED)


def _link(path):
    return (
        f"{path} is a symbolic link, which a run does not write through; remove it, or give "
        "another directory"
    )


def _move_back(path):
    last = WRITTEN, FINISHED
    files = list((path / REPLACED).iterdir())
    for file in files:
        if os.path.lexists(path / file.name):
            raise FileExistsError(
                f"{path} holds {file.name} and {REPLACED}/{file.name}, and no process leaves both; "
                "remove one of them, or give another directory"
            )
    for file in sorted(files, key=lambda file: (file.name in last, file.name == FINISHED)):
        file.rename(path / file.name)
    (path / REPLACED).rmdir()


def _delete_listed(path: Path, listed: str) -> None:
    """Delete what a list names, and then the list."""
    for name in written_files(path, listed):
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)
    (path / listed).unlink(missing_ok=True)


def _remove_temporaries(path: Path, written: Collection[str]) -> None:
    for name in (*written, FINISHED):
        temporary_path(path / name).unlink(missing_ok=True)
