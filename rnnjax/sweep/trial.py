"""One trial: it runs the script as from a shell, watches it, and reads its objective.

The script's exit code decides the result of the trial:

0               complete: the objective is read from its summary.json
75              another process writes to the folder: the script is started again after a pause
143             it was asked to stop: the worker stops, and the trial returns to the queue
killed          the trial returns to the queue, a few times
1, 2, others    failed, with its last line as the reason; not retried
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
from rnnjax.sweep.retries import WORKER_STOPS
from rnnjax.sweep.settings import Sweep

LOCKED, STOPPED = os.EX_TEMPFAIL, 128 + signal.SIGTERM
POLL = 0.2  # seconds between two checks of a running script


class FailedError(Exception):
    """The trial has failed and is not retried; the message is the reason."""


class CrashedError(Exception):
    """The trial's script was killed; it may be retried."""


class WorkerStoppedError(Exception):
    """The worker was asked to stop and has stopped its trial, which returns to the queue."""


def run_trial(
    sweep: Sweep, study: Any, trial: Any, request: Any, on_start: Callable[[], None]
) -> float:
    """Run a trial to its end and return its objective.

    Args:
        sweep, study, trial: the trial has been taken from the queue.
        request: `request.signal` is not 0 once the worker has been asked to stop.
        on_start: called when other workers can see that this worker runs the trial.

    Raises:
        optuna.TrialPruned, FailedError, CrashedError, WorkerStoppedError: the trial did not
            complete, for this reason.
        ArgumentError: summary.json lacks the objective, and no trial has reached it yet.
    """
    values = {name: part.suggest(trial, name) for name, part in sweep.space.items()}
    frozen = study._storage.get_trial(trial._trial_id)
    folder = sweep.folder(frozen)
    words = sweep.words(values, folder)
    study._storage.record_heartbeat(trial._trial_id)
    trial.set_user_attr("worker", [trial.number, socket.gethostname(), os.getpid()])
    on_start()
    trial.set_user_attr("command", shlex.join(["python", *words]))
    curve = Curve(folder / "metrics.jsonl", sweep.settings.prune_on, sweep.settings.direction)
    log = sweep.out / "logs" / f"{sweep.key(frozen)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    before, start = trial.user_attrs.get("seconds", 0.0), time.monotonic()
    try:
        while True:
            code, last_line = _watch(sweep, trial, [sys.executable, *words], log, curve, request)
            if request.signal or code != LOCKED:
                break
            processes.pause(min(2, sweep.settings.heartbeat / 4), request)
    finally:
        trial.set_user_attr("seconds", before + time.monotonic() - start)
    if code == 0:
        return _objective(sweep, study, trial, folder)
    if request.signal or code == STOPPED:
        request.signal = request.signal or signal.SIGTERM
        _count_worker_stop(trial)
        raise WorkerStoppedError
    if code < 0:
        trial.set_user_attr("crash", f"killed by {signal.Signals(-code).name}")
        raise CrashedError
    raise _failed(trial, last_line or f"exit code {code}")


def seeds(summary: Any, objective: str) -> list[float]:
    """Return the numbers at a dotted path of a summary: one, or one per seed.

    A * in the path stands for the only entry, whatever its name; the verdict of an experiment does
    not count.

    Raises:
        LookupError: the path leads to no number; the message says what the summary holds.
    """
    found = summary
    for depth, part in enumerate(objective.split(".")):
        if not isinstance(found, dict):
            raise LookupError(f"{'.'.join(objective.split('.')[:depth])} holds no {part}")
        names = [name for name in found if depth or name != "verdict"]
        if part == "*" and len(names) == 1:
            found = found[names[0]]
        elif part in found:
            found = found[part]
        else:
            where = ".".join(objective.split(".")[:depth]) or "summary.json"
            what = "single entry" if part == "*" else part
            raise LookupError(f"{where} has no {what}, only {', '.join(names) or 'nothing'}")
    values = found if isinstance(found, list) else [found]
    if not values or not all(isinstance(v, int | float) for v in values):
        inside = f"; it holds {', '.join(found)}" if isinstance(found, dict) else ""
        raise LookupError(f"{objective} is neither a number nor a list of numbers{inside}")
    return [float(v) for v in values]


def _watch(sweep, trial, command, log, curve, request):
    """Run the script until it ends; return its exit code and its last line."""
    import optuna

    pruner = sweep.settings.pruner != "none"
    with open(log, "ab") as file:
        start = file.seek(0, os.SEEK_END)
        child = processes.start(command, stdout=file, stderr=file)
        try:
            while (code := processes.wait(child, POLL)) is None:
                if request.signal:
                    break
                if _report(trial, curve) and pruner and trial.should_prune():
                    if processes.stop(child) != 0:
                        raise optuna.TrialPruned
                    break  # it had finished already
        finally:  # the script ends before its worker in any case
            code = processes.stop(child)
    _report(trial, curve, ended=True)
    return code, _last_line(log, start)


def _report(trial, curve, *, ended=False):
    """Report new points of the curve, and return whether there are any."""
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
            _count_worker_stop(trial)
            raise ArgumentError(f"--objective {objective}: {error}") from None
        raise _failed(trial, f"objective {objective}: {error}") from None
    trial.set_user_attr("values", [v if math.isfinite(v) else str(v) for v in values])
    bad = sum(not math.isfinite(v) for v in values)
    if bad:
        of = f"{bad} of {len(values)} seeds" if len(values) > 1 else f"it is {values[0]}"
        raise _failed(trial, f"objective {objective} is not finite: {of}")
    return math.fsum(values) / len(values)


def _failed(trial, reason):
    trial.set_user_attr("reason", reason)  # an ended trial cannot be changed
    return FailedError(reason)


def _count_worker_stop(trial):
    """Record that an attempt ends because its worker stops, which is not a crash."""
    trial.set_user_attr(WORKER_STOPS, trial.user_attrs.get(WORKER_STOPS, 0) + 1)


def _last_line(log: Path, start):
    """Return the last error line in a log after a position, or the last line if there is none."""
    with open(log, "rb") as file:
        file.seek(start)
        lines = [x.strip() for x in file.read().decode(errors="replace").splitlines() if x.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]
