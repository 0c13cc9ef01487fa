"""SIGTERM during training: it is noted, and the training loop saves a checkpoint and stops."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class TerminatedError(Exception):
    """SIGTERM was received and a checkpoint has been saved; the message names the step."""


@contextlib.contextmanager
def note_sigterm() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGTERM has been received; no other action is taken.

    Python delivers signals to the main thread only; in other threads the function returns False.
    """
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, previous)
