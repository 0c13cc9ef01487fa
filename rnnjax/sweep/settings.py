"""The settings of a sweep, and the sweep directory: sweep.json, trials, logs."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError
from rnnjax.runs.atomic_files import replace_file
from rnnjax.runs.reading import read_object
from rnnjax.sweep import script, space
from rnnjax.sweep.retries import original


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is searched and how; fixed from the first trial to the last."""

    script: str
    search: dict[str, str]
    set: dict[str, str] = dataclasses.field(default_factory=dict)
    objective: str
    direction: str = "minimize"
    sampler: str = "grid"
    pruner: str = "none"
    prune_on: str = ""
    prune_after: int = 0
    seed: int = 0
    storage: str = ""
    study: str = ""
    heartbeat: int = 30


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep's directory and the content of its sweep.json."""

    out: Path
    settings: Settings
    types: dict[str, list[str]]
    """The types of the fields that are searched or set, as in `Script.types`."""
    id: str
    """Distinguishes it from other sweeps in the same database."""
    study: str = ""
    """The study's name, which stays when the directory is renamed."""

    @property
    def space(self) -> space.Space:
        """The values that each trial draws from, by field."""
        grid = self.settings.sampler == "grid"
        return {
            name: space.parse(name, text, self.types[name], grid=grid)
            for name, text in self.settings.search.items()
        }

    @property
    def url(self) -> str:
        """The URL of the study's storage, in SQLAlchemy's form."""
        url = self.settings.storage
        if not url:
            return f"sqlite:///{self.out.resolve() / 'study.db'}"
        scheme, colon, rest = url.partition("://")
        scheme = "postgresql+psycopg" if scheme in ("postgres", "postgresql") else scheme
        return f"{scheme}{colon}{rest}"

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return self.settings.study or self.study or self.out.resolve().name

    def key(self, trial: Any) -> str:
        """Return the name of a trial's folder; all attempts of a trial share one folder."""
        return f"{original(trial):04d}"

    def folder(self, trial: Any) -> Path:
        """Return the run directory of a trial."""
        return self.out / "trials" / self.key(trial)

    def words(self, values: dict[str, Any], folder: Path) -> list[str]:
        """Return the command line of the script for a trial."""
        chosen = script.arguments(self.types, {**self.settings.set, **values})
        return [self.settings.script, *chosen, "--out", str(folder)]


def load(out: str | Path) -> Sweep:
    """Read a sweep's settings.

    Raises:
        ArgumentError: the directory holds no sweep, or its sweep.json is damaged.
    """
    path = Path(out) / "sweep.json"
    try:
        stored = read_object(path)
        sweep = Sweep(
            Path(out),
            Settings(**stored["settings"]),
            stored["types"],
            stored["id"],
            stored.get("study", ""),
        )
        _check_types(sweep)
    except FileNotFoundError:
        raise ArgumentError(f"--out: {out} holds no sweep (no sweep.json)") from None
    except OSError as error:
        raise ArgumentError(f"--out: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(f"--out: {path} is damaged: {error!r}") from None
    return sweep


def _check_types(sweep):
    """Raise a TypeError unless everything has the type that its field declares."""
    for owner in (sweep, sweep.settings):
        for field in dataclasses.fields(owner):
            kind: Any = typing.get_origin(field.type) or field.type
            value = getattr(owner, field.name)
            if not isinstance(value, kind):
                raise TypeError(f"{field.name} is {value!r}")
    texts = [*sweep.settings.search.items(), *sweep.settings.set.items()]
    if not all(isinstance(text, str) for pair in texts for text in pair):
        raise TypeError("a field's values are not text")
    if taken := {*sweep.settings.search, *sweep.settings.set} & {*script.NOT_FOR_TRIALS}:
        raise TypeError(f"a sweep sets {', '.join(sorted(taken))} of its trials itself")
    for name in (*sweep.settings.search, *sweep.settings.set):
        types = sweep.types[name]
        if not isinstance(types, list) or not all(isinstance(t, str) for t in types):
            raise TypeError(f"the types of {name} are {types!r}")


def write(sweep: Sweep) -> None:
    """Write sweep.json; the file is complete or absent."""
    value = {
        "id": sweep.id,
        "study": sweep.name,
        "settings": dataclasses.asdict(sweep.settings),
        "types": sweep.types,
    }
    replace_file(sweep.out / "sweep.json", json.dumps(value, indent=2) + "\n")
