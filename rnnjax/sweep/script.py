"""An experiment's script seen from outside: its fields, what they take, and its command line."""

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
from rnnjax.experiment import run_options
from rnnjax.sweep import space

OWN = "out", "overwrite", "redraw"  # what the sweep itself sets


@dataclasses.dataclass(frozen=True)
class Script:
    """A script with a dataclass `Config`, and perhaps `PRESETS`."""

    path: Path
    config: Any
    presets: Mapping[str, Any] | None

    def fields(self) -> list[str]:
        """Return the names of the fields that can be searched or set."""
        return [f.name for f in dataclasses.fields(self.config) if f.name not in OWN]

    def types(self, name: str) -> list[str]:
        """Return what a field takes: int, float, bool, None or word, and tuple if several."""
        return sorted(_parts(typing.get_type_hints(self.config)[name]))

    def check_field(self, name: str, option: str) -> None:
        """Raise an ArgumentError if there is no such field to search or to set.

        A field that changes no number, such as `mesh`, may be set but not searched.
        """
        names = self.fields()
        if name in OWN:
            raise ArgumentError(f"{option} {name}: the sweep sets --{name} of its trials itself")
        if option == "--search" and name in run_options(self.config):
            raise ArgumentError(f"{option} {name}: --{name.replace('_', '-')} changes no number")
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            allowed = f"perhaps you meant {close[0]}" if close else f"there are {', '.join(names)}"
            raise ArgumentError(f"{option} {name}: {self.path.name} has no such field; {allowed}")

    def check_values(self, values: Mapping[str, Any]) -> None:
        """Raise an ArgumentError if the script would refuse the values: parse them as it does."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                words = arguments({name: self.types(name) for name in values}, values)
                command_line.parse(self.config, words, presets=self.presets)
        except SystemExit:
            line = said.getvalue().strip().removeprefix("error: ").removesuffix(" (see --help)")
            given = ", ".join(f"{name}={space.text(value)}" for name, value in values.items())
            raise ArgumentError(f"{line} (in {given})") from None


def load(path: str | Path) -> Script:
    """Load a script as a module, without running its main.

    Raises:
        ArgumentError: there is no such file, it fails to load, or it has no dataclass `Config`.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise ArgumentError(f"no script {path}; give an experiment, such as experiments/gates.py")
    name = f"sweep_of_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ArgumentError(f"{path} is no Python script")
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
    """Return values of fields, whose types are given, as the script's command line takes them."""
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


@contextlib.contextmanager
def _beside(path, name, module) -> Iterator[None]:
    """Let a script import what lies beside it, as when it is run."""
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        yield
    finally:
        sys.path.remove(str(path.parent))


def _parts(kind):
    """Return the names of the types of a union, and of what a tuple holds."""
    origin, within = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType, tuple, list):
        parts = {part for argument in within if argument is not ... for part in _parts(argument)}
        return parts | ({"tuple"} if origin in (tuple, list) else set())
    names = {int: "int", float: "float", bool: "bool", type(None): "None"}
    return {names.get(kind, "word") if isinstance(kind, type) else "word"}
