"""Replacing the run in a directory: only files that a run wrote are moved, and none is lost.

The file .rnnjax lists what a run wrote. Overwriting moves these files to the folder .replaced. They
are deleted when the new run is finished, and moved back if the new run is rolled back.
"""

import contextlib
import shutil
from pathlib import Path

from rnnjax.runs.atomic_files import temporary_path

WRITTEN, REPLACED = ".rnnjax", ".replaced"
PROTECTED = "config.json", "metrics.jsonl", "times.jsonl", "summary.json"
"""Files that are never overwritten unless a run wrote them."""


def written_files(path: Path) -> list[str]:
    """Return the names of the files and folders that a run wrote to a directory."""
    file = path / WRITTEN
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def move_away(path: Path, *, overwrite: bool) -> None:
    """Move the run in a directory, if there is one and it may be replaced, to .replaced.

    Raises:
        FileExistsError: `path` is a file; or holds a run, and `overwrite` is false; or holds one
            of the `PROTECTED` files, which no run wrote. Nothing has been changed.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; give a directory")
    written = written_files(path)
    if written and not overwrite:
        raise FileExistsError(f"{path} already holds a run; give another directory")
    for name in PROTECTED:
        if name not in written and (path / name).exists():
            raise FileExistsError(
                f"{path} holds a {name} that no run wrote; give another directory"
            )
    delete_replaced(path)
    replaced = path / REPLACED
    for name in written:
        temporary_path(path / name).unlink(missing_ok=True)
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
    replaced = path / REPLACED
    if replaced.exists():
        for file in replaced.iterdir():
            file.rename(path / file.name)
        replaced.rmdir()
    with contextlib.suppress(OSError):  # the directory holds something else
        path.rmdir()


def delete_replaced(path: Path) -> None:
    """Delete the run that was replaced."""
    if (path / REPLACED).exists():
        shutil.rmtree(path / REPLACED)
