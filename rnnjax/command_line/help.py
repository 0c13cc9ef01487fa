"""`--help`: the description of a configuration and its options, in sections.

An experiment's own options come first, then those of each class it builds on, under that class's
`title`. Field docstrings are read from the source, so nothing heavy is imported.
"""

import ast
import dataclasses
import inspect
import itertools
import os
import shutil
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import Any, Literal

from rnnjax.command_line.checks import option

LEFT = 30  # columns for an option's name and what it takes
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def help_text(config: type, defaults: Any = None, *, width: int | None = None) -> str:
    """Return what `--help` prints.

    Args:
        config: a dataclass; its docstring is the description.
        defaults: an instance whose values are shown as defaults; None means those of the fields.
        width: of the lines; None means that of the terminal, at most 100.
    """
    width = width or min(shutil.get_terminal_size().columns, 100)
    hints = typing.get_type_hints(config, include_extras=True)
    documented = _documentation(config)
    positional, sections = [], {}
    for field in dataclasses.fields(config):
        entry = _entry(field, hints[field.name], documented, defaults, width)
        if _is_positional(hints[field.name]):
            positional.append((field.name.upper(), entry))
        else:
            sections.setdefault(_home(config, field.name), []).append(entry)
    script = os.path.basename(sys.argv[0]) or "script"
    if sys.argv[0].startswith("python "):
        script = sys.argv[0]
    usage = " ".join([f"usage: {script}", *(name for name, _ in positional), "[OPTIONS]"])
    parts = [usage, inspect.cleandoc(config.__doc__ or "")]
    if positional:
        parts.append("\n".join(["arguments:", *(entry for _, entry in positional)]))
    last = f"  {'-h, --help':{LEFT - 2}}Show this message."
    homes = [home for home in config.__mro__ if home in sections]
    for home in homes:
        entries = sections[home] + ([last] if home is homes[0] else [])
        parts.append("\n".join([f"{_title(home, config)}:", *entries]))
    return "\n\n".join(parts)


def _home(config, name):
    """Return the class that introduces a field: the most basic one that declares it."""
    return next(c for c in reversed(config.__mro__) if name in inspect.get_annotations(c))


def _title(home, config):
    return "options" if home is config else home.__dict__.get("title", "more options")


def _entry(field, hint, documented, defaults, width):
    hint = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    name, takes = option(field.name), _takes(hint)
    left = f"  {name}, --no-{name[2:]}" if hint is bool else f"  {name} {takes}"
    if defaults is not None:
        default = getattr(defaults, field.name)
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        default = field.default
    text = " ".join(documented.get(field.name, "").split())
    if default is dataclasses.MISSING:
        text = f"{text} (required)"
    elif default is not None and default != ():
        text = f"{text} (default: {_shown(default)})"
    lines = textwrap.wrap(
        text, max(width - LEFT, 24), break_long_words=False, break_on_hyphens=False
    ) or [""]
    indent = " " * LEFT
    if len(left) < LEFT - 1:
        first = [f"{left:{LEFT}}{lines[0]}".rstrip(), *(indent + line for line in lines[1:])]
    else:
        first = [left, *(indent + line for line in lines)]
    return "\n".join(first)


def _takes(hint):
    origin, within = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "{" + ",".join(map(str, within)) + "}"
    if origin in (typing.Union, types.UnionType):
        return "|".join(_takes(part) for part in within if part is not type(None))
    if origin in (tuple, list):
        parts = [_takes(part) for part in within if part is not ...]
        return f"{parts[0]} ..." if ... in within else " ".join(parts)
    return METAVARS.get(hint, "VALUE")


def _shown(value):
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return repr(value) if value == "" else str(value)


def _is_positional(hint):
    return any(repr(mark) == "Positional" for mark in getattr(hint, "__metadata__", ()))


def _documentation(config):
    """Return the docstring of each field: of the most derived class that gives one."""
    found: dict[str, str] = {}
    for home in config.__mro__:
        if not dataclasses.is_dataclass(home):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(home))).body[0].body  # pyright: ignore
        except (OSError, TypeError):  # typed in, not read from a file
            continue
        for statement, following in itertools.pairwise(body):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found.setdefault(name, text)
    return found
