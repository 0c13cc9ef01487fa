"""Child processes that end with their parent, and signals that ask a process to stop."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

POLL = 0.2  # seconds between two checks for a signal


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    signal = 0


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT as a request to stop; the process stops when it can.

    Python delivers signals to the main thread only; in other threads nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number, _):
        request.signal = request.signal or number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process in a session of its own; the terminal's signals reach it only through us.

    On Linux it is sent SIGTERM when the thread that started it ends.
    """
    setpriv = shutil.which("setpriv")
    ends_with_parent = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
    return subprocess.Popen([*ends_with_parent, *command], **options)


def wait(child: subprocess.Popen[Any], seconds: float) -> int | None:
    """Wait for a child at most the given time; return its exit code if it has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(seconds)
    return None


def stop(child: subprocess.Popen[Any]) -> int:
    """Send SIGTERM to a child that is running, wait until it ends, and return its exit code."""
    if child.poll() is None:
        child.terminate()
    return child.wait()


def pause(seconds: float, request: StopRequest) -> None:
    """Wait the given time, or until this process is asked to stop."""
    end = time.monotonic() + seconds
    while not request.signal and (left := end - time.monotonic()) > 0:
        time.sleep(min(POLL, left))


def available_cores() -> list[int]:
    """Return the cores that this process may use; none if the system does not say."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


def use_cores(cores: Sequence[int]) -> None:
    """Run this process and its children only on these cores, if the system can do that."""
    if cores and sys.platform == "linux":
        os.sched_setaffinity(0, cores)
