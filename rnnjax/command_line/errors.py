"""How a wrong argument ends a script: one line on standard error, and an exit code."""

import sys
from typing import NoReturn


class ArgumentError(Exception):
    """An argument is wrong; the message names it, the value given, and what is allowed."""


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit."""
    print("error:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(code)
