"""The code that a sweep's directory names: its script, and files of cells of one's own."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from rnnjax.command_line import ArgumentError
from rnnjax.runs.trusted_code import first_untrusted, project
from rnnjax.sweep import space
from rnnjax.sweep.settings import Sweep


def code_files(sweep: Sweep) -> list[Path]:
    """Return the script of a sweep, and the files of the cells among the values of its fields."""
    from rnnjax import networks

    settings = sweep.settings
    values = [(name, v) for name, text in settings.search.items() for v in text.split(",")]
    values += settings.set.items()
    several = {name for name, types in sweep.types.items() if "tuple" in types}
    words = [w for name, v in values for w in (space.elements(v) if name in several else [v])]
    cells = [file for word in words if (file := networks.own_file(word)) is not None]
    return [Path(settings.script), *cells]


def with_trusted_code(sweep: Sweep, trust: Iterable[str | Path]) -> Sweep:
    """Return a sweep with its script as a path without links, if this process may run its code.

    Args:
        sweep: as its directory describes it.
        trust: files and folders whose code may be run, beside the current project's.

    Raises:
        ArgumentError: a file of code lies elsewhere, or in the sweep's directory, or is not there.
    """
    files, described = code_files(sweep), sweep.out / "sweep.json"
    for file in files:
        if not file.is_file():
            raise ArgumentError(f"--out: {described} names {file}, which is not there")
    found = first_untrusted(files, named_in=sweep.out, trust=map(Path, trust))
    if found is not None:
        raise ArgumentError(
            f"--out: {described} names {found}, which is no code of the project in "
            f"{project(Path.cwd())}; --trust {found} lets it run"
        )
    script = str(files[0].resolve())
    return dataclasses.replace(sweep, settings=dataclasses.replace(sweep.settings, script=script))
