"""How a wrong argument ends a script: one line on standard error, and an exit code."""

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn


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


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit."""
    print("error:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(code)
