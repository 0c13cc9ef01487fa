"""The edge between a shell and a program: arguments in, one-line errors and exit codes out."""

from rnnjax.command_line.checks import (
    at_least,
    distinct,
    finite,
    fraction,
    option,
    positive,
    rising,
)
from rnnjax.command_line.entry import main
from rnnjax.command_line.errors import (
    ArgumentError,
    as_argument_error,
    fail,
    until_reader_leaves,
)
from rnnjax.command_line.help import help_text
from rnnjax.command_line.parsing import parse
from rnnjax.command_line.progress import progress

__all__ = [
    "ArgumentError",
    "as_argument_error",
    "at_least",
    "distinct",
    "fail",
    "finite",
    "fraction",
    "help_text",
    "main",
    "option",
    "parse",
    "positive",
    "progress",
    "rising",
    "until_reader_leaves",
]
