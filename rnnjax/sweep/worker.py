"""A worker: takes one trial after another from the queue until none is left."""

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnnjax.sweep import processes, space
from rnnjax.sweep.study import done, load, locked, opened, original, quiet, revive
from rnnjax.sweep.trial import CrashedError, FailedError, LeftError, run_trial


def say(line: str) -> None:
    """Print a line on standard error at once."""
    print(line, file=sys.stderr, flush=True)


def work(out: str | Path, *, tell: Callable[[str], None] = say) -> int:
    """Join a sweep: run trials until none is waiting and none is run by another live worker.

    Any number of workers may do so, on any machines that share the directory and the storage, and
    may be killed at any time.

    Args:
        out: the directory of a sweep that `create` has made.
        tell: called with a line for each trial that ends.

    Returns:
        How many trials this worker has ended.

    Raises:
        ArgumentError: there is no sweep in `out`, its storage cannot be reached, or it turns out
            that summary.json does not have the objective.
        KeyboardInterrupt, SystemExit: on SIGINT, or with 143 on SIGTERM; the script that ran has
            been stopped, and its trial put back.
    """
    sweep = load(out)
    with processes.leaving() as leave, quiet(), opened(sweep) as study:
        ended = 0
        poll = min(5, sweep.settings.heartbeat / 2)
        while not leave.signal:
            with contextlib.ExitStack() as lock:
                lock.enter_context(locked(sweep.out))
                revive(sweep, study)
                waiting, running = (_in_state(study, name) for name in ("WAITING", "RUNNING"))
                if waiting:
                    study.sampler = _sampler(sweep, original(waiting[0]))
                    with contextlib.suppress(LeftError):
                        ended += _run_next(sweep, study, leave, lock.close, tell)
                    continue
            if not running:
                break
            processes.pause(poll, leave)
        if leave.signal:
            with locked(sweep.out):
                revive(sweep, study)  # ours among them, at once
    if leave.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if leave.signal:
        raise SystemExit(128 + leave.signal)
    return ended


def _run_next(sweep, study, leave, begun, tell):
    """Run the trial that is first in the queue; return whether it has ended here."""
    import optuna

    mine: list[Any] = []

    def objective(trial):
        mine.append(trial)
        return run_trial(sweep, study, trial, leave, begun)

    try:
        study.optimize(objective, n_trials=1, catch=(FailedError, CrashedError))
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        # We were silent for so long, suspended perhaps, that another worker has put it back.
        trial = _frozen(study, mine[0]) if mine else None
        if trial is None or trial.state == optuna.trial.TrialState.RUNNING:
            raise
        tell(f"trial {original(trial)}: another worker goes on with it")
        return False
    tell(_line(sweep, study, _frozen(study, mine[0])))
    return True


def _line(sweep, study, trial):
    """Return what became of a trial, and how far the sweep is."""
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
        text = f"{trial.user_attrs.get('crash')}; it is {'given up' if done(trial) else 'put back'}"
    settings = ", ".join(f"{name}={space.text(value)}" for name, value in trial.params.items())
    parts = [f"trial {number} ({settings}): {text}"]
    if complete:
        sign = 1 if sweep.settings.direction == "minimize" else -1
        best = min(complete, key=lambda t: sign * t.value)
        parts.append(f"best {best.value:.6g} by trial {original(best)}")
    parts.append(f"{sum(map(done, trials))} of {len({*map(original, trials)})} done")
    return "; ".join(parts)


def _sampler(sweep, number):
    """Return the sampler for the trial of a number: what it draws depends on no other worker.

    (But that of `tpe` learns from the trials before.)
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
