"""The report of a sweep: a table of its trials, the best one, and two figures.

trials.csv, .parquet        one row per trial, with all its attempts
best.json                   the best trial, its spread over seeds, and the command to run it again
parallel_coordinates.csv    the numbers behind that figure (.png, .svg)
heat_map.csv                the same; only if two or more fields were searched
"""

import shlex
from pathlib import Path

from rnnjax.runs import Run
from rnnjax.sweep.drawing import draw
from rnnjax.sweep.settings import Sweep, load
from rnnjax.sweep.trial_table import Trial, field_column, trials


def report(out: str | Path) -> list[Trial]:
    """Write tables and figures of the current trials to the sweep's directory; return the trials.

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
        draw(sweep, run, found)
    return found


def best_of(sweep: Sweep, found: list[Trial]) -> Trial | None:
    """Return the complete trial with the best objective (the first if several), or None."""
    sign = 1 if sweep.settings.direction == "minimize" else -1
    complete = [trial for trial in found if trial.state == "complete"]
    return min(complete, key=lambda trial: sign * trial.objective, default=None)


def rerun(trial: Trial) -> str:
    """Return the command that runs a trial's configuration in a new directory."""
    try:
        words = shlex.split(trial.command)
        return shlex.join(words[: words.index("--out")])
    except ValueError:  # nobody but a person has written that
        return trial.command


def _columns(sweep, found):
    """Return the table without seeds; a field whose name is taken has the prefix `config.`."""
    own = ("spread", "std", "objective", "seconds", "retries", "folder", "reason", "command")
    taken = {"number", "state", "seeds", *own}
    fields = {f"config.{name}" if name in taken else name: name for name in sweep.settings.search}
    return {
        "number": [trial.number for trial in found],
        "state": [trial.state for trial in found],
        **{column: field_column(found, name) for column, name in fields.items()},
        **{name: [getattr(trial, name) for trial in found] for name in own},
    }


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
