"""Which code a directory may make a command run: that of the current project, or what you name.

sweep.json names a script, and config.json may name the file of a cell. Who can write such a file
can choose what the next command runs, so these files are run only if they lie in the project of the
current folder, in the repository that rnnjax itself is imported from, or where the user says.
Neither may they lie in the directory that names them: what came with a directory is not the user's.
"""

from collections.abc import Iterable
from pathlib import Path

MARKS = ".git", "pyproject.toml"


def project(folder: Path) -> Path:
    """Return the folder itself or the nearest one around it that holds .git or pyproject.toml.

    If there is none, it is the folder itself.
    """
    folder = folder.resolve()
    around = (f for f in (folder, *folder.parents) if any((f / mark).exists() for mark in MARKS))
    return next(around, folder)


def first_untrusted(
    files: Iterable[Path], *, named_in: Path, trust: Iterable[Path] = ()
) -> Path | None:
    """Return the first of the files that must not be run, with all links followed; None if all may.

    Args:
        files: of code.
        named_in: the directory that names them.
        trust: files and folders that the user has named.
    """
    allowed = [path.resolve() for path in trust]
    own = [project(Path.cwd()), *_repository()]
    own = [folder for folder in own if folder != folder.parent]  # the root holds everything
    for path in (file.resolve() for file in files):
        apart = not path.is_relative_to(named_in.resolve())
        if any(path.is_relative_to(place) for place in allowed):
            continue
        if not (apart and any(path.is_relative_to(folder) for folder in own)):
            return path
    return None


def _repository():
    """Return the repository that rnnjax is imported from; none if it is installed without one."""
    folder = Path(__file__).resolve().parents[2]
    return [folder] if (folder / "pyproject.toml").exists() else []
