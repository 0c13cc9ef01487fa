"""What a sweep has found so far: a table, the best configuration, two figures.

trials.csv, .parquet        a row for each trial, however often it was put back
best.json                   the best trial, its spread over seeds, and the command to run it again
parallel_coordinates.csv    the numbers behind that figure (.png, .svg)
heat_map.csv                the same; only if two fields or more were searched
"""

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.runs import Run
from rnnjax.sweep import space
from rnnjax.sweep.study import Sweep, crashes, done, load, opened, original

BINS = 8  # of a range that is no grid, in a heat map
MOST_PANELS = 6
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running", "WAITING": "waiting"}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a sweep, with all its attempts."""

    number: int
    state: str
    """complete, pruned, failed, running or waiting."""
    settings: dict[str, Any]
    """The values of the fields that are searched; empty before it first starts."""
    objective: float
    """Mean over seeds; NaN unless complete."""
    seeds: tuple[float, ...]
    """The objective of each seed, or its only value."""
    seconds: float
    """That its script ran, in all attempts but those whose worker was killed."""
    retries: int
    """How often it was put back."""
    folder: str
    """Of its run."""
    reason: str
    """Why it failed."""
    command: str
    """What was run, as typed."""

    @property
    def spread(self) -> float:
        """Largest less smallest over seeds; NaN for fewer than two."""
        return float(np.ptp(self.seeds)) if len(self.seeds) > 1 else math.nan

    @property
    def std(self) -> float:
        """Standard deviation over seeds, with n - 1; NaN for fewer than two."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else math.nan


def trials(out: str | Path) -> list[Trial]:
    """Return the trials of a sweep in order of their numbers, as they are now.

    Raises:
        ArgumentError: there is no sweep in `out`, or its storage cannot be reached.
    """
    sweep = load(out)
    with opened(sweep) as study:
        return _trials(sweep, study)


def report(out: str | Path) -> list[Trial]:
    """Write tables and figures of what there is to the sweep's directory; return its trials.

    Raises:
        ArgumentError: there is no sweep in `out`, or its storage cannot be reached.
        OSError: a file cannot be written.
    """
    sweep, found, run = load(out), trials(out), Run(Path(out))
    columns = _columns(sweep, found)
    seeds = [" ".join(map(repr, trial.seeds)) for trial in found]
    run.write_table("trials", [{**columns, "seeds": seeds}])
    seeds = [[float(value) for value in trial.seeds] for trial in found]
    run.write_parquet("trials", {**columns, "seeds": seeds})
    best = best_of(sweep, found)
    if best is not None:
        run.write_json("best.json", _summary(sweep, found, best))
        _draw(sweep, run, found)
    return found


def best_of(sweep: Sweep, found: list[Trial]) -> Trial | None:
    """Return the complete trial with the best objective, the first of equal ones, or None."""
    sign = 1 if sweep.settings.direction == "minimize" else -1
    complete = [trial for trial in found if trial.state == "complete"]
    return min(complete, key=lambda trial: sign * trial.objective, default=None)


def rerun(trial: Trial) -> str:
    """Return the command that runs a trial's configuration again, in a new directory."""
    words = shlex.split(trial.command)
    return shlex.join(words[: words.index("--out")])


def _trials(sweep, study):
    latest: dict[int, Any] = {}
    for trial in study.get_trials(deepcopy=False):
        latest[original(trial)] = trial  # numbers count up
    return [_trial(sweep, number, trial) for number, trial in sorted(latest.items())]


def _trial(sweep, number, trial):
    known = trial.user_attrs
    failed = trial.state.name == "FAIL"
    reason = known.get("reason", "") if failed else ""
    if failed and not reason and done(trial):
        last = known.get("crash", "its worker was killed")
        reason = f"given up after {crashes(trial) + 1} crashes; the last: {last}"
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


def _columns(sweep, found):
    """Return the table but for the seeds; a field with a name of ours has `config.` before its."""
    own = ("spread", "std", "objective", "seconds", "retries", "folder", "reason", "command")
    taken = {"number", "state", "seeds", *own}
    fields = {f"config.{name}" if name in taken else name: name for name in sweep.settings.search}
    return {
        "number": [trial.number for trial in found],
        "state": [trial.state for trial in found],
        **{column: _field(found, name) for column, name in fields.items()},
        **{name: [getattr(trial, name) for trial in found] for name in own},
    }


def _field(found, name):
    """Return a searched field of all trials: numbers and NaN, or words and empty ones."""
    values = [trial.settings.get(name) for trial in found]
    known = [value for trial, value in zip(found, values, strict=True) if name in trial.settings]
    if known and all(type(value) in (int, float) for value in known):
        return [math.nan if value is None else value for value in values]
    return [
        space.text(value) if name in trial.settings else ""
        for trial, value in zip(found, values, strict=True)
    ]


def _summary(sweep, found, best):
    states = [trial.state for trial in found]
    return {
        "number": best.number,
        "objective": best.objective,
        "name": sweep.settings.objective,
        "direction": sweep.settings.direction,
        "settings": best.settings,
        "seeds": best.seeds,
        "spread": best.spread if len(best.seeds) > 1 else None,
        "std": best.std if len(best.seeds) > 1 else None,
        "folder": best.folder,
        "command": rerun(best),
        "trials": {state: states.count(state) for state in dict.fromkeys(states)},
    }


def _draw(sweep, run, found):
    from rnnjax import figures

    fields = list(sweep.settings.search)
    ranges = {n: part for n, part in sweep.space.items() if isinstance(part, space.Range)}
    started = [trial for trial in found if trial.settings]
    parts = {"number": [t.number for t in started], "state": [t.state for t in started]}
    for name in fields:
        column = _field(started, name)
        parts[name] = column if name in ranges else list(map(space.text, column))
    objective = [trial.objective for trial in started]
    run.write_table("parallel_coordinates", [{**parts, "objective": objective}])
    table = {name: np.array(column) for name, column in {**parts, "objective": objective}.items()}
    options: dict[str, Any] = {"label": _label(sweep), "log_value": _log(objective)}
    figure = figures.parallel_coordinates(
        table,
        fields,
        "objective",
        log=[name for name, part in ranges.items() if part.log],
        largest=sweep.settings.direction == "maximize",
        state="state",
        names={name: name.replace("_", " ") for name in fields},
        **options,
    )
    run.save_figure("parallel_coordinates", figure)
    cells = _cells(sweep, started) if len(fields) > 1 else []
    if cells:
        _draw_heat_map(sweep, run, cells)


def _cells(sweep, started):
    """Return the best objective in each cell of two fields (and panel of a third), as rows."""
    x, y, *panel = _axes(sweep)
    sign = 1 if sweep.settings.direction == "minimize" else -1
    best: dict[tuple, float] = {}
    for trial in started:
        if trial.state in ("running", "waiting"):
            continue
        cell = tuple(_place(sweep, name, trial.settings[name]) for name in (x, y, *panel))
        objectives = [v for v in (best.get(cell), trial.objective) if v is not None]
        finite = [value for value in objectives if math.isfinite(value)]
        best[cell] = min(finite, key=lambda value: sign * value, default=math.nan)
    return [
        {**dict(zip((x, y, *panel), cell, strict=True)), "objective": value}
        for cell, value in best.items()
    ]


def _axes(sweep):
    """Return the fields of a heat map: ranges first, then those with most values; a panel."""

    def key(name):
        return isinstance(sweep.space[name], space.Choice), -len(_values(sweep, name))

    x, y, *others = sorted(sweep.space, key=key)
    few = [name for name in others if 1 < len(_values(sweep, name)) <= MOST_PANELS]
    return [x, y, *few[-1:]]


def _values(sweep, name):
    """Return what is on a field's axis: its values, or the middles of the bins of a range."""
    part = sweep.space[name]
    if isinstance(part, space.Choice):
        return [*map(space.text, part.values)]
    if sweep.settings.sampler == "grid":
        return [*map(float, part.grid())]
    return [_middle(part, i) for i in range(BINS)] if part.low < part.high else [float(part.low)]


def _place(sweep, name, value):
    """Return where a value of a field is on its axis."""
    part = sweep.space[name]
    if isinstance(part, space.Choice):
        return space.text(value)
    if sweep.settings.sampler == "grid" or part.low == part.high:
        return float(value)
    low, high, turned = map(math.log if part.log else float, (part.low, part.high, value))
    return _middle(part, min(int((turned - low) / (high - low) * BINS), BINS - 1))


def _middle(part, index):
    share = (index + 0.5) / BINS
    if part.log:
        return float(part.low * (part.high / part.low) ** share)
    return float(part.low + (part.high - part.low) * share)


def _draw_heat_map(sweep, run, cells):
    from rnnjax import figures

    x, y, *panel = _axes(sweep)
    cells = sorted(cells, key=lambda row: [_values(sweep, n).index(row[n]) for n in (*panel, y, x)])
    run.write_table("heat_map", cells)
    table = {name: np.array([row[name] for row in cells]) for name in cells[0]}
    all_of_it = len(sweep.space) == 2 + len(panel) and sweep.settings.sampler == "grid"
    figure = figures.heat_maps(
        table,
        x,
        y,
        "objective",
        panel=panel[0] if panel else None,
        columns=3,
        xlabel=x.replace("_", " "),
        ylabel=y.replace("_", " "),
        label=_label(sweep) if all_of_it else f"best {_label(sweep)}",
        log=_log(table["objective"].tolist()),
        not_finite="no trial was complete",
        xs=_values(sweep, x),
        ys=_values(sweep, y),
    )
    run.save_figure("heat_map", figure)


def _label(sweep):
    return sweep.settings.objective.removeprefix("*.").replace("_", " ")


def _log(values):
    """Return whether values need a logarithmic scale: all above 0, and far apart."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite and min(finite) > 0 and max(finite) > 10 * min(finite))
