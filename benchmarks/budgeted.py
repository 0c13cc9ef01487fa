"""Parts of a benchmark that have a time budget each: what they found, and what they left out."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import jax
import timing
from libraries import LeftOut

GRACE = 20  # seconds that a program has to save a checkpoint when it is stopped


class Section:
    """The rows and remarks of one section, printed as they come, and the time that is left."""

    def __init__(self, name: str, seconds: float):
        self.name, self.rows, self.notes, self.failed = name, [], [], False
        self.end = time.perf_counter() + seconds
        timing.say(f"{name}: at most about {seconds:.0f} s")

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.perf_counter()

    def require(self, seconds: float = 0.0) -> None:
        """Raise LeftOut if there is not so much time left."""
        if self.left() <= seconds:
            raise LeftOut(f"it would take {seconds:.0f} s" if seconds else "no time left")

    def add(self, **row: Any) -> None:
        """Add and print a row."""
        self.rows.append(row)
        timing.say("  " + ", ".join(f"{k} {_shown(v)}" for k, v in row.items() if v is not None))

    def note(self, text: str) -> None:
        """Add and print a remark."""
        self.notes.append(text)
        timing.say(f"  {text}")

    @contextlib.contextmanager
    def attempt(self, what: str):
        """Within it, what cannot be done becomes a remark."""
        try:
            yield
        except LeftOut as reason:
            self.note(f"{what} left out: {reason}.")
        except AssertionError as error:
            self.failed = True
            self.note(f"{what} failed: {_first_line(error)}")
        except jax.errors.JaxRuntimeError as error:  # memory, or what the device cannot do
            self.note(f"{what} left out: {_first_line(error)}")

    def text(self) -> str:
        """Return the section in Markdown."""
        notes = "\n".join(f"- {note}" for note in self.notes)
        tables = [timing.table([*group]) for group in _alike(self.rows)]
        return "\n\n".join([f"### {self.name}", *tables, *filter(None, [notes])])


def _alike(rows):
    """Return the rows in groups of equal columns."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    return groups.values()


def _shown(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _first_line(error):
    return str(error).splitlines()[0][:200]


def run_for(seconds: float, command: Sequence[str]) -> tuple[int, str]:
    """Run a program, stop it after some seconds, and return its exit code and its errors."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    for wait, number in ((seconds, signal.SIGTERM), (GRACE, signal.SIGKILL)):
        try:
            errors = process.communicate(timeout=wait)[1]
            return process.returncode, errors
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    errors = process.communicate()[1]
    return process.returncode, errors
