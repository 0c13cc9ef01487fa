"""Ctrl-C in one of rnnjax's own programs is one line, also while it still imports what it needs.

`rnnjax.command_line.main` turns a KeyboardInterrupt into one line, but it only begins to run once
everything is imported, which takes a second or more. So `rnnjax` sets `sys.excepthook` before it
imports anything slow, and the scripts import `rnnjax` before JAX.

It does so only if the main program is one of this repository's scripts or modules. In a notebook,
under a test runner and in a program of one's own nothing changes: what an interrupt means there,
and how a traceback looks, is for that program to say.
"""

import signal
import sys
from pathlib import Path

FOLDERS = "experiments", "benchmarks"
PROJECT = 'name = "rnnjax"'


def own_program() -> bool:
    """Return whether the main program is a module or a script of rnnjax."""
    if sys.argv[:1] == ["-m"]:  # Python is still looking for the module
        words = sys.orig_argv
        return words[words.index("-m") + 1].startswith("rnnjax.") if "-m" in words[:-1] else False
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return file is not None and is_own_script(Path(file))


def is_own_script(path: Path) -> bool:
    """Return whether a file lies in a folder of scripts of the repository of rnnjax."""
    path = path.resolve()
    for folder in path.parents:
        if folder.name in FOLDERS:
            try:
                return PROJECT in (folder.parent / "pyproject.toml").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                return False
    return False


def end_quietly() -> None:
    """End this process with one line and exit code 130 at an interrupt that nothing handles."""
    before = sys.excepthook

    def hook(kind, error, trace):
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)
            return
        print("error: interrupted", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT)

    sys.excepthook = hook
