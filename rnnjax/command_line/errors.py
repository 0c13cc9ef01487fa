"""How a wrong argument ends a script: one line on standard error, and an exit code."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from rnnjax.runs.reading import printable

STDOUT = 1  # its file descriptor


class ArgumentError(Exception):
    """An argument is wrong; the message names it, the value given, and what is allowed."""


@contextlib.contextmanager
def as_argument_error(options: str) -> Iterator[None]:
    """Turn a ValueError within the context into an ArgumentError that names the options.

    Args:
        options: that the value comes from, as they are typed: "--window and --batch-size".
    """
    try:
        yield
    except ValueError as error:
        raise ArgumentError(f"{options}: {error}") from None


@contextlib.contextmanager
def until_reader_leaves() -> Iterator[None]:
    """Exit quietly, as other programs do, if standard output is a pipe that nobody reads any more.

    This is so within `| head`, once it has its lines. The exit code is that of SIGPIPE, 141.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        poll = select.poll()
        poll.register(STDOUT, 0)
        if not any(events & select.POLLERR for _, events in poll.poll(0)):
            raise  # it was another pipe
        # What is left goes nowhere: Python writes it once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
        raise SystemExit(128 + signal.SIGPIPE) from None


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit; control characters in the message are escaped."""
    print("error:", *map(printable, message.splitlines()), file=sys.stderr)
    raise SystemExit(code)
