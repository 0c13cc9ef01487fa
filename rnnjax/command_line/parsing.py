"""Parse a command line into a frozen dataclass."""

import contextlib
import io
import itertools
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rnnjax.command_line.checks import option
from rnnjax.command_line.errors import ArgumentError, fail, until_reader_leaves
from rnnjax.command_line.explain import explain
from rnnjax.command_line.help import help_text

Config = TypeVar("Config")


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
        presets: named defaults, chosen with `--preset NAME`, a field of `config`; the first unless
            another is named. Other options override the preset's.

    Raises:
        SystemExit: 0 after `--help`; 2, with one line on standard error, for a wrong argument.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options: dict[str, Any] = {"default": _preset(arguments, presets)} if presets else {}
    if {"-h", "--help"} & {*arguments}:
        with until_reader_leaves():
            print(help_text(config, options.get("default")))
        raise SystemExit(0)
    try:
        arguments = _with_home_folders(config, arguments)
    except ArgumentError as error:
        fail(str(error))
    import tyro

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _endless_lines():
            return tyro.cli(config, args=arguments, **options)
    except ArgumentError as error:
        message = str(error)
    except SystemExit as stop:
        if not stop.code:
            raise
        message = f"{explain(errors.getvalue(), config, arguments)} (see --help)"
    fail(message)


def _with_home_folders(config, arguments):
    """Return the arguments with `~` at the start of paths replaced by the user's folder."""
    hints = typing.get_type_hints(config)
    paths = {option(name) for name, hint in hints.items() if Path in (hint, *typing.get_args(hint))}
    replaced, previous = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if previous in paths or (equals and name in paths):
            name, value = (f"{name}=", value) if equals and name in paths else ("", argument)
            if not value:
                raise ArgumentError(f"{(name or previous).rstrip('=')} needs a path, got nothing")
            argument = name + os.path.expanduser(value)
        replaced.append(argument)
        previous = argument
    return replaced


def _preset(arguments, presets):
    """Return the preset named last in the arguments; tyro reports an unknown name."""
    chosen = next(iter(presets))
    for argument, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name == "--preset":
            chosen = value if equals else following
    return presets.get(chosen, next(iter(presets.values())))


@contextlib.contextmanager
def _endless_lines():
    """Keep tyro from wrapping lines: it breaks long words."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
