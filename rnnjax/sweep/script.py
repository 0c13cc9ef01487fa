"""The script of an experiment: its fields, their types, and its command line."""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnjax import command_line
from rnnjax.command_line import ArgumentError
from rnnjax.sweep import space

NOT_FOR_TRIALS = (
    *("out", "overwrite", "redraw", "predict"),
    *("coordinator", "num_processes", "process_id"),
)
"""Options that a sweep's trials do not take from the user: a trial is one process, and new."""


@dataclasses.dataclass(frozen=True)
class Script:
    """A script with a dataclass `Config`, and optionally `PRESETS`."""

    path: Path
    config: Any
    presets: Mapping[str, Any] | None

    def fields(self) -> list[str]:
        """Return the names of the fields that can be searched or set: those that change numbers."""
        names = [field.name for field in dataclasses.fields(self.config)]
        return [name for name in names if name not in self.run_options()]

    def run_options(self) -> set[str]:
        """Return the names of the fields that change no number; a sweep refuses them."""
        from rnnjax.experiment import run_options

        return run_options(self.config)

    def types(self, name: str) -> list[str]:
        """Return the types of a field: int, float, bool, None or word; tuple for several values."""
        return sorted(_parts(typing.get_type_hints(self.config)[name]))

    def check_field(self, name: str, option: str) -> None:
        """Raise an ArgumentError unless a field can be searched, or set for all trials.

        Options that change no number cannot be searched; some of them can be set for all trials.
        """
        names = self.fields()
        if name in self.run_options():
            if name in NOT_FOR_TRIALS:
                raise ArgumentError(f"{option} {name}: a sweep sets --{name} of its trials itself")
            if option == "--search":
                raise ArgumentError(
                    f"--search {name}: this option changes no number; give it with --set"
                )
        elif name not in names:
            close = difflib.get_close_matches(name, names, 1)
            allowed = f"perhaps you meant {close[0]}" if close else f"there are {', '.join(names)}"
            raise ArgumentError(f"{option} {name}: {self.path.name} has no such field; {allowed}")

    def check_values(self, values: Mapping[str, Any]) -> None:
        """Raise an ArgumentError if the script would refuse the values; its own parser is used."""
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                words = arguments({name: self.types(name) for name in values}, values)
                command_line.parse(self.config, words, presets=self.presets)
        except SystemExit:
            line = errors.getvalue().strip().removeprefix("error: ").removesuffix(" (see --help)")
            given = ", ".join(f"{name}={space.text(value)}" for name, value in values.items())
            raise ArgumentError(f"{line} (in {given})") from None


def load(path: str | Path) -> Script:
    """Import a script as a module, without running its main.

    Raises:
        ArgumentError: there is no such file, it cannot be imported, or has no dataclass `Config`.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise ArgumentError(f"no script {path}; give an experiment, such as experiments/gates.py")
    name = f"sweep_of_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ArgumentError(f"{path} is not a Python script")
    module = importlib.util.module_from_spec(specification)
    with _beside(path, name, module):
        try:
            specification.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise ArgumentError(f"{path} cannot be loaded: {error!r}") from error
    config = getattr(module, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise ArgumentError(f"{path} has no dataclass Config, whose fields a sweep searches")
    return Script(path, config, getattr(module, "PRESETS", None))


def arguments(types: Mapping[str, Sequence[str]], values: Mapping[str, Any]) -> list[str]:
    """Return values of fields with the given types as arguments of the script's command line."""
    words: list[str] = []
    for name, value in values.items():
        option = command_line.option(name)
        if [*types[name]] == ["bool"]:
            value = space.value(value, ["bool"]) if isinstance(value, str) else value
        if [*types[name]] == ["bool"] and isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif "tuple" in types[name]:
            words += [option, *space.elements(value)]
        else:
            words += [option, space.text(value)]
    return words


def absolute_cell(word: str, script: Path) -> str:
    """Return the name of a cell of one's own with the absolute path of its file.

    `./mine.py:MyCell` is relative to the current directory, and trials may run in another one. So
    is `mine:MyCell` if mine.py is in the current directory and not beside the script. Other words
    are returned unchanged.
    """
    from rnnjax import networks

    form, cell = networks.split(word)
    place, colon, name = cell.rpartition(":")
    if not (colon and place and name.isidentifier()):
        return word
    path = Path(place)
    if path.suffix != ".py" and path.name == place:  # a module
        path = Path(*place.split(".")).with_suffix(".py")
        if (script.parent / path).is_file():
            return word
    return f"{form}{path.resolve()}:{name}" if path.is_file() else word


@contextlib.contextmanager
def _beside(path, name, module) -> Iterator[None]:
    """Let a script import modules beside it, as when it is run."""
    sys.modules[name] = module  # dataclasses look up their module
    sys.path.insert(0, str(path.parent))
    try:
        yield
    finally:
        sys.path.remove(str(path.parent))


def _parts(kind):
    """Return the names of the types of a union, and of the elements of a tuple."""
    origin, within = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType, tuple, list):
        parts = {part for argument in within if argument is not ... for part in _parts(argument)}
        return parts | ({"tuple"} if origin in (tuple, list) else set())
    names = {int: "int", float: "float", bool: "bool", type(None): "None"}
    return {names.get(kind, "word") if isinstance(kind, type) else "word"}
