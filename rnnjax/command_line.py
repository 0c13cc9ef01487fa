"""The edge between a shell and an experiment: arguments in, one-line errors and exit codes out."""

import contextlib
import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

Config = TypeVar("Config")


class ArgumentError(Exception):
    """An argument is wrong: what was given and what is allowed, in the user's words."""


def parse(
    config: type[Config],
    arguments: Sequence[str] | None = None,
    *,
    presets: Mapping[str, Config] | None = None,
) -> Config:
    """Parse the command line into `config`, a frozen dataclass.

    Args:
        config: its fields are the options, its docstring the help; its `__post_init__` may raise
            `ArgumentError`.
        arguments: what to parse; None means `sys.argv[1:]`.
        presets: named defaults, chosen with `--preset NAME`, a field of `config`. Other options
            override the preset's.

    Raises:
        SystemExit: 0 after `--help`; 2, with one line on standard error, for a wrong argument.
    """
    import tyro

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    default = _preset(arguments, presets) if presets else None
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            if default is None:
                return tyro.cli(config, args=arguments)
            return tyro.cli(config, args=arguments, default=default)
    except ArgumentError as error:
        fail(str(error))
    except SystemExit as stop:
        if stop.code:
            fail(_one_line(errors.getvalue()))
        raise


def main(config: type[Config], run: Callable[[Config], Any], **options: Any) -> None:
    """Parse the command line and call `run(config)`.

    Raises:
        SystemExit: 2, with one line on standard error, for a wrong argument (`ArgumentError`, from
            parsing or from `run`); 1 for training that stopped being finite; 130 when interrupted.
    """
    parsed = parse(config, **options)
    from rnnjax.training import NonFiniteError, use_all_cores

    use_all_cores()
    try:
        run(parsed)
    except ArgumentError as error:
        fail(str(error))
    except NonFiniteError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted", 130)


def at_least(least: int, config: Any, *names: str) -> None:
    """Raise an ArgumentError for the first of the named options that is below `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise ArgumentError(
                f"{option(name)} must be at least {least}, got {getattr(config, name)}"
            )


def positive(config: Any, *names: str) -> None:
    """Raise an ArgumentError for the first of the named options that is not positive and finite."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ArgumentError(
                f"{option(name)} must be positive and finite, got {getattr(config, name)}"
            )


def option(name: str) -> str:
    """Return the name of a field as it is typed: `--batch-size`."""
    return "--" + name.replace("_", "-")


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


def _preset(arguments, presets):
    chosen = next(iter(presets))
    for i, argument in enumerate(arguments):
        if argument == "--preset" and i + 1 < len(arguments):
            chosen = arguments[i + 1]
        elif argument.startswith("--preset="):
            chosen = argument.removeprefix("--preset=")
    return presets.get(chosen, next(iter(presets.values())))  # tyro reports an unknown name


def _one_line(box: str) -> str:
    """Return the message of the box that tyro draws around an error, and its hint if it has one."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │╭╮╰╯─|+") for line in box.splitlines()]
    text = " ".join(line for line in lines[1:] if line)
    text = re.split(r" (?:Argument helptext|For full helptext)", text)[0]
    text = re.sub(
        r"Error parsing (--[\w-]+): invalid literal for int.*: ('.*')",
        r"\1 must be a whole number, got \2",
        text,
    )
    text = re.sub(
        r"Error parsing (--[\w-]+): could not convert.*: ('.*')",
        r"\1 must be a number, got \2",
        text,
    )
    text = re.sub(
        r" (?:Perhaps you meant|Arguments similar to \S+): .*?(--[\w-]+).*",
        r"; perhaps you meant \1",
        text,
    )
    return f"{text.rstrip('.')} (see --help)"
