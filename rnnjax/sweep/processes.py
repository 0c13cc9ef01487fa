"""Child processes that end with their parent, and how a process is asked to leave."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

SOON = 0.2  # seconds: how soon a signal is noticed


class Leave:
    """Whether this process was asked to leave, and by which signal."""

    signal = 0


@contextlib.contextmanager
def leaving() -> Iterator[Leave]:
    """Take SIGTERM and SIGINT as the wish that this process leaves, which it does when it can."""
    leave = Leave()
    if threading.current_thread() is not threading.main_thread():
        yield leave  # where signals cannot be had
        return

    def ask(number, _):
        leave.signal = leave.signal or number

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield leave
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process in a session of its own: signals of the terminal reach it through us alone.

    It is asked to stop when the thread that started it ends, if the system can do that (Linux).
    """
    setpriv = shutil.which("setpriv")
    with_us = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
    return subprocess.Popen([*with_us, *command], **options)


def wait(child: subprocess.Popen[Any], seconds: float) -> int | None:
    """Wait for a child for so long, and return its exit code if it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(seconds)
    return None


def stop(child: subprocess.Popen[Any]) -> int:
    """Ask a child to stop if it still runs, wait as long as that takes, return its exit code."""
    if child.poll() is None:
        child.terminate()
    return child.wait()


def pause(seconds: float, leave: Leave) -> None:
    """Wait, but no longer than until this process is asked to leave."""
    end = time.monotonic() + seconds
    while not leave.signal and (left := end - time.monotonic()) > 0:
        time.sleep(min(SOON, left))


def use_cores(cores: Sequence[int]) -> None:
    """Run this process, and those that it starts, on these cores only, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
