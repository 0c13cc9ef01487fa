"""The trials of a sweep, each with all its attempts."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.sweep import space
from rnnjax.sweep.retries import crashes, done, original
from rnnjax.sweep.settings import load
from rnnjax.sweep.storage import opened

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting"}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a sweep, with all its attempts."""

    number: int
    state: str
    """complete, pruned, failed, running or waiting."""
    settings: dict[str, Any]
    """The values of the searched fields; empty before the first start."""
    objective: float
    """Mean over seeds; NaN unless complete."""
    seeds: tuple[float, ...]
    """The objective of each seed, or its only value."""
    seconds: float
    """Run time of its script, without attempts whose worker was killed."""
    retries: int
    """Number of attempts beyond the first."""
    folder: str
    """Its run directory."""
    reason: str
    """The reason of a failure."""
    command: str
    """The command that was run."""

    @property
    def spread(self) -> float:
        """Largest minus smallest value over seeds; NaN for fewer than two."""
        return float(np.ptp(self.seeds)) if len(self.seeds) > 1 else math.nan

    @property
    def std(self) -> float:
        """Standard deviation over seeds, with n - 1; NaN for fewer than two."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else math.nan


def trials(out: str | Path) -> list[Trial]:
    """Return the current trials of a sweep in order of their numbers.

    Raises:
        ArgumentError: there is no sweep in `out`, or its storage cannot be reached.
    """
    sweep = load(out)
    with opened(sweep) as study:
        return _trials(sweep, study)


def field_column(found: Sequence[Trial], name: str) -> list[Any]:
    """Return a searched field of all trials: numbers or NaN, or texts, empty if not known."""
    values = [trial.settings.get(name) for trial in found]
    known = [value for trial, value in zip(found, values, strict=True) if name in trial.settings]
    if known and all(type(value) in (int, float) for value in known):
        return [math.nan if value is None else value for value in values]
    return [
        space.text(value) if name in trial.settings else ""
        for trial, value in zip(found, values, strict=True)
    ]


def _trials(sweep, study):
    latest: dict[int, Any] = {}
    for trial in study.get_trials(deepcopy=False):
        latest[original(trial)] = trial  # numbers increase
    return [_trial(sweep, number, trial) for number, trial in sorted(latest.items())]


def _trial(sweep, number, trial):
    known = trial.user_attrs
    failed = trial.state.name == "FAIL"
    reason = known.get("reason", "") if failed else ""
    if failed and not reason and done(trial):
        last = known.get("crash", "its worker was killed")
        reason = f"failed after {crashes(trial) + 1} crashes; the last: {last}"
    state = STATES.get(trial.state.name) or ("failed" if done(trial) else "waiting")
    settings = trial.params or trial.system_attrs.get("fixed_params", {})
    return Trial(
        number,
        state,
        {name: settings[name] for name in sweep.settings.search if name in settings},
        trial.value if state == "complete" else math.nan,
        tuple(map(float, known.get("values", []))),
        known.get("seconds", 0.0),
        len(trial.system_attrs.get("retry_history", [])),
        str(Path("trials") / sweep.key(trial)),
        reason,
        known.get("command", ""),
    )
