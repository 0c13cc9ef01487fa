"""A configuration for tests of run directories, and what a directory holds."""

import dataclasses
from pathlib import Path

from rnnjax.runs import Run
from rnnjax.runs.overwriting import WRITTEN


@dataclasses.dataclass(frozen=True)
class Config:
    cells: tuple[str, ...] = ("elman", "grü")
    length: int | None = None
    rate: float = 3e-3
    out: Path = Path("some") / "where"


def contents(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def names(directory):
    return sorted(path.name for path in directory.iterdir() if path.name != WRITTEN)


@dataclasses.dataclass(frozen=True)
class Options(Config):
    keep: int = 2
    overwrite: bool = False


def resume_or_begin(path, **changes):
    config = Options(out=path, **changes)
    options = {"out", "overwrite", "keep"}
    return Run.resume_or_create(path, config, ignoring=options, overwrite=config.overwrite)


def begin(path, **changes):
    run = resume_or_begin(path, **changes)
    run.append("metrics.jsonl", [{"step": 1}, {"step": 2}])
    return run
