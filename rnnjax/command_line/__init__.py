"""The edge between a shell and an experiment: arguments in, one-line errors and exit codes out."""

from rnnjax.command_line.parsing import (
    ArgumentError,
    RunOptions,
    at_least,
    fail,
    in_run,
    main,
    option,
    parse,
    positive,
    progress,
)

__all__ = [
    "ArgumentError",
    "RunOptions",
    "at_least",
    "fail",
    "in_run",
    "main",
    "option",
    "parse",
    "positive",
    "progress",
]
