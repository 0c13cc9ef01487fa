"""Attempts of a trial: how they are counted, when a trial has ended, and how it is retried.

Each attempt is a trial of the Optuna study. A retry has the settings and the folder of the first
attempt, whose number is the trial's number.
"""

import copy
from typing import Any

from rnnjax.sweep.storage import quiet

MOST_CRASHES = 5  # of a trial's worker or script; the trial fails at the next crash
WORKER_STOPS = "worker_stops"  # user attribute: attempts that ended because the worker stopped


def original(trial: Any) -> int:
    """Return the number of a trial's first attempt."""
    return trial.system_attrs.get("failed_trial", trial.number)


def crashes(trial: Any) -> int:
    """Return the number of earlier attempts that crashed; stops of workers do not count."""
    return len(trial.system_attrs.get("retry_history", [])) - trial.user_attrs.get(WORKER_STOPS, 0)


def done(trial: Any) -> bool:
    """Return whether a trial has ended and will not be retried."""
    if trial.state.name == "FAIL":
        return "reason" in trial.user_attrs or crashes(trial) >= MOST_CRASHES
    return trial.state.name in ("COMPLETE", "PRUNED")


def retry_interrupted(study: Any) -> None:
    """Put the trials of dead workers back into the queue; the caller holds the sweep's lock.

    A trial that ended without a reason is retried, with the same settings and the same folder,
    unless it has crashed more than `MOST_CRASHES` times.
    """
    import optuna
    from optuna.trial import TrialState

    storage = study._storage
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get("worker", [None])[0] != trial.number:
            # Its worker died after it took the trial from the queue, before the first heartbeat.
            storage.record_heartbeat(trial._trial_id)
            storage.set_trial_user_attr(trial._trial_id, "worker", [trial.number, "lost"])
    with quiet():
        optuna.storages.fail_stale_trials(study)
        retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
    trials = study.get_trials(deepcopy=False)
    retried = {n for trial in trials for n in trial.system_attrs.get("retry_history", [])}
    for trial in trials:
        if trial.state == TrialState.FAIL and not done(trial) and trial.number not in retried:
            retry(study, copy.deepcopy(trial))  # the callback changes the trial
