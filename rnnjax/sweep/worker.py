"""A worker: it runs one trial after another until the queue is empty."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rnnjax.sweep import processes, space
from rnnjax.sweep.retries import done, original, retry_interrupted
from rnnjax.sweep.settings import load
from rnnjax.sweep.storage import locked, opened, quiet
from rnnjax.sweep.trial import CrashedError, FailedError, WorkerStoppedError, run_trial
from rnnjax.sweep.trust import with_trusted_code


def print_line(line: str) -> None:
    """Print a line on standard error immediately."""
    print(line, file=sys.stderr, flush=True)


def work(
    out: str | Path,
    *,
    trust: Iterable[str | Path] = (),
    report_line: Callable[[str], None] = print_line,
) -> int:
    """Join a sweep: run trials until none is waiting and no other live worker runs one.

    Any number of workers may join, on all machines that share the directory and the storage. They
    may be killed at any time.

    Args:
        out: the directory of a sweep, from `create`. Its sweep.json names the code that is run:
            the script, and files of cells.
        trust: files and folders whose code may be run, beside that of the current folder's project
            and of the repository that rnnjax is imported from.
        report_line: called with a line for each trial that ends.

    Returns:
        The number of trials that ended in this worker.

    Raises:
        ArgumentError: there is no sweep in `out`, it names code that is not trusted, its storage
            cannot be reached, or summary.json does not have the objective.
        KeyboardInterrupt, SystemExit: on SIGINT, or on SIGTERM with code 143; the running script
            has been stopped, and its trial is back in the queue.
    """
    sweep = with_trusted_code(load(out), trust)
    with processes.stop_requests() as request, quiet(), opened(sweep) as study:
        ended = 0
        poll = min(5, sweep.settings.heartbeat / 2)
        while not request.signal:
            with contextlib.ExitStack() as lock:
                lock.enter_context(locked(sweep.out))
                retry_interrupted(study)
                waiting, running = (_in_state(study, name) for name in ("WAITING", "RUNNING"))
                if waiting:
                    study.sampler = _sampler(sweep, original(waiting[0]))
                    with contextlib.suppress(WorkerStoppedError):
                        ended += _run_next(sweep, study, request, lock.close, report_line)
                    continue
            if not running:
                break
            processes.pause(poll, request)
        if request.signal:
            with locked(sweep.out):
                retry_interrupted(study)  # including the trial of this worker
    if request.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if request.signal:
        raise SystemExit(128 + request.signal)
    return ended


def _run_next(sweep, study, request, on_start, report_line):
    """Run the first trial of the queue; return whether it ended in this worker."""
    import optuna

    mine: list[Any] = []

    def objective(trial):
        mine.append(trial)
        return run_trial(sweep, study, trial, request, on_start)

    try:
        study.optimize(objective, n_trials=1, catch=(FailedError, CrashedError))
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        # Without a heartbeat (suspended, perhaps), another worker considered this one dead.
        trial = _frozen(study, mine[0]) if mine else None
        if trial is None or trial.state == optuna.trial.TrialState.RUNNING:
            raise
        report_line(f"trial {original(trial)}: another worker has taken it over")
        return False
    report_line(_line(sweep, study, _frozen(study, mine[0])))
    return True


def _line(sweep, study, trial):
    """Return the result of a trial and the progress of the sweep as one line."""
    trials = study.get_trials(deepcopy=False)
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    number = original(trial)
    if trial.state.name == "COMPLETE":
        text = f"{trial.value:.6g}"
    elif trial.state.name == "PRUNED":
        text = f"pruned at step {trial.last_step}"
    elif "reason" in trial.user_attrs:
        text = f"failed: {trial.user_attrs['reason']}"
    else:
        then = "given up" if done(trial) else "back in the queue"
        text = f"{trial.user_attrs.get('crash')}; it is {then}"
    settings = ", ".join(f"{name}={space.text(value)}" for name, value in trial.params.items())
    parts = [f"trial {number} ({settings}): {text}"]
    if complete:
        sign = 1 if sweep.settings.direction == "minimize" else -1
        best = min(complete, key=lambda t: sign * t.value)
        parts.append(f"best {best.value:.6g} by trial {original(best)}")
    parts.append(f"{sum(map(done, trials))} of {len({*map(original, trials)})} done")
    return "; ".join(parts)


def _sampler(sweep, number):
    """Return the sampler of a trial; its draws depend on the seed and the trial's number.

    The sampler `tpe` also learns from earlier trials.
    """
    import numpy as np
    import optuna

    (seed,) = np.random.SeedSequence([sweep.settings.seed, number]).generate_state(1)
    if sweep.settings.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)
    return optuna.samplers.RandomSampler(seed=int(seed))


def _in_state(study, name):
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState[name],))


def _frozen(study, trial):
    return study._storage.get_trial(trial._trial_id)
