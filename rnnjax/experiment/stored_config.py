"""The configuration of a run, read back from config.json: every field has the type that it says."""

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rnnjax import networks
from rnnjax.command_line import ArgumentError, option
from rnnjax.runs.trusted_code import first_untrusted, project


def from_stored(kind: type, stored: Mapping[str, Any], path: Path) -> Any:
    """Return the configuration that config.json holds.

    Args:
        kind: a dataclass; `stored` has a value for each of its fields.
        path: of the file, for the message.

    Raises:
        ArgumentError: a value has another type, or is one that the command line refuses; the
            message names the file.
    """
    hints, values = typing.get_type_hints(kind), {}
    for name, value in stored.items():
        if not _fits(value, hints[name]):
            raise ArgumentError(f"--predict: {path} is damaged: it has {name} as {_short(value)}")
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except ArgumentError as error:
        raise ArgumentError(f"--predict: {path} is damaged: {error}") from None


def check_code(stored: Mapping[str, Any], asked: Any, path: Path) -> None:
    """Raise an ArgumentError if config.json names the file of a cell that is not to be trusted.

    Args:
        stored: what config.json holds.
        asked: the configuration of the command, whose own files of cells are trusted.
        path: of config.json.
    """
    given = [file for _, _, file in _code(vars(asked))]
    for name, word, file in _code(stored):
        found = first_untrusted([file], named_in=path.parent, trust=given)
        if found is not None:
            raise ArgumentError(
                f"--predict: {path} names {found}, which is no code of the project in "
                f"{project(Path.cwd())}; {option(name)} {word} lets it run"
            )


def _code(values) -> Iterator[tuple[str, str, Path]]:
    """Yield the name of the field, the word and the file for each file of a cell."""
    for name, value in values.items():
        for word in value if isinstance(value, list | tuple) else [value]:
            if isinstance(word, str) and (file := networks.own_file(word)) is not None:
                yield name, word, file


def _fits(value, hint):
    """Return whether a value that JSON holds is one of a field with this type."""
    origin, within = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in within)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in within)
    if origin is tuple:
        if not isinstance(value, list):
            return False
        kinds = within[:1] * len(value) if within[1:] == (...,) else within
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is (str if hint is Path else hint)


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
