"""One trial: the script run as a person would, watched, and its objective read.

How the script ends says what becomes of the trial:

0               complete: the objective is read from its summary.json
1, 2, others    failed, with its last line as the reason; not repeated
75              another live process writes to the folder: it is run again in a while
143             it was asked to stop: the worker leaves, and the trial is put back at once
killed          put back, a few times
"""

import math
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnnjax.command_line import ArgumentError
from rnnjax.runs import Run
from rnnjax.sweep import processes
from rnnjax.sweep.curve import Curve
from rnnjax.sweep.study import Sweep

LOCKED, STOPPED = os.EX_TEMPFAIL, 128 + signal.SIGTERM
LOOK = 0.2  # seconds between two looks at a script that runs


class FailedError(Exception):
    """The trial has failed for good; the message is the reason."""


class CrashedError(Exception):
    """The trial's script was killed; it may be repeated."""


class LeftError(Exception):
    """The worker was asked to leave and has stopped its trial, which is to be put back."""


def run_trial(sweep: Sweep, study: Any, trial: Any, leave: Any, begun: Callable[[], None]) -> float:
    """Run a trial to its end and return its objective.

    Args:
        sweep, study, trial: the trial has been taken from the queue.
        leave: `leave.signal` is not 0 once the worker is to leave.
        begun: called when other workers can see that the trial is in good hands.

    Raises:
        optuna.TrialPruned, FailedError, CrashedError, LeftError: what became of it instead.
        ArgumentError: summary.json lacks the objective, and no trial has reached it yet.
    """
    values = {name: part.suggest(trial, name) for name, part in sweep.space.items()}
    frozen = study._storage.get_trial(trial._trial_id)
    folder = sweep.folder(frozen)
    words = sweep.words(values, folder)
    study._storage.record_heartbeat(trial._trial_id)
    trial.set_user_attr("worker", [trial.number, socket.gethostname(), os.getpid()])
    begun()
    trial.set_user_attr("command", shlex.join(["python", *words]))
    curve = Curve(folder / "metrics.jsonl", sweep.settings.prune_on, sweep.settings.direction)
    log = sweep.out / "logs" / f"{sweep.key(frozen)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    before, start = trial.user_attrs.get("seconds", 0.0), time.monotonic()
    try:
        while True:
            code, said = _watch(sweep, trial, [sys.executable, *words], log, curve, leave)
            if leave.signal or code != LOCKED:
                break
            processes.pause(min(2, sweep.settings.heartbeat / 4), leave)
    finally:
        trial.set_user_attr("seconds", before + time.monotonic() - start)
    if code == 0:
        return _objective(sweep, study, trial, folder)
    if leave.signal or code == STOPPED:
        leave.signal = leave.signal or signal.SIGTERM
        _put_back(trial)
        raise LeftError
    if code < 0:
        trial.set_user_attr("crash", f"killed by {signal.Signals(-code).name}")
        raise CrashedError
    raise _failed(trial, said or f"exit code {code}")


def seeds(summary: Any, objective: str) -> list[float]:
    """Return the numbers at a dotted path of a summary: one, or one for each seed.

    A part * stands for the only entry, whatever its name; the verdict does not count.

    Raises:
        LookupError: there is nothing, or no number; the message says what there is.
    """
    at = summary
    for depth, part in enumerate(objective.split(".")):
        if not isinstance(at, dict):
            raise LookupError(f"{'.'.join(objective.split('.')[:depth])} holds no {part}")
        entries = [value for name, value in at.items() if name != "verdict"]
        if part == "*" and len(entries) == 1:
            (at,) = entries
        elif part in at:
            at = at[part]
        else:
            where = ".".join(objective.split(".")[:depth]) or "summary.json"
            what = "one entry" if part == "*" else part
            raise LookupError(f"{where} has not {what}, but {', '.join(at) or 'nothing'}")
    values = at if isinstance(at, list) else [at]
    if not values or not all(isinstance(v, int | float) for v in values):
        inside = f"; it holds {', '.join(at)}" if isinstance(at, dict) else ""
        raise LookupError(f"{objective} is neither a number nor a list of numbers{inside}")
    return [float(v) for v in values]


def _watch(sweep, trial, command, log, curve, leave):
    """Run the script until it ends; return its exit code and the last that it said."""
    import optuna

    pruner = sweep.settings.pruner != "none"
    with open(log, "ab") as file:
        start = file.seek(0, os.SEEK_END)
        child = processes.start(command, stdout=file, stderr=file)
        try:
            while (code := processes.wait(child, LOOK)) is None:
                if leave.signal:
                    break
                if _report(trial, curve) and pruner and trial.should_prune():
                    if processes.stop(child) != 0:
                        raise optuna.TrialPruned
                    break  # it had just finished
        finally:  # whatever happens to the worker, its script ends before it
            code = processes.stop(child)
    _report(trial, curve, ended=True)
    return code, _last_line(log, start)


def _report(trial, curve, *, ended=False):
    """Report what is new on the curve, and return whether anything is."""
    new = curve.read(ended=ended)
    for step, value in new:
        trial.report(value, step)
    return bool(new)


def _objective(sweep, study, trial, folder):
    objective = sweep.settings.objective
    try:
        values = seeds(Run(folder).read_json("summary.json"), objective)
    except FileNotFoundError:
        raise _failed(trial, "it ended without a summary.json") from None
    except LookupError as error:
        reached = any(t.state.name == "COMPLETE" for t in study.get_trials(deepcopy=False))
        if not reached:
            _put_back(trial)
            raise ArgumentError(f"--objective {objective}: {error}") from None
        raise _failed(trial, f"objective {objective}: {error}") from None
    trial.set_user_attr("values", [v if math.isfinite(v) else str(v) for v in values])
    bad = sum(not math.isfinite(v) for v in values)
    if bad:
        of = f"{bad} of {len(values)} seeds" if len(values) > 1 else f"it is {values[0]}"
        raise _failed(trial, f"objective {objective} is not finite: {of}")
    return math.fsum(values) / len(values)


def _failed(trial, reason):
    trial.set_user_attr("reason", reason)  # while it runs: later it cannot be changed
    return FailedError(reason)


def _put_back(trial):
    """Note that a trial stops because its worker leaves, which is no crash."""
    trial.set_user_attr("left", trial.user_attrs.get("left", 0) + 1)


def _last_line(log: Path, start):
    """Return the last error in what a script said from a place in its log on, or its last line."""
    with open(log, "rb") as file:
        file.seek(start)
        lines = [x.strip() for x in file.read().decode(errors="replace").splitlines() if x.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]
