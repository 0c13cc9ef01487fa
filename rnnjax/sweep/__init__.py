"""Hyperparameter search across programs and machines, on Optuna.

A sweep is a directory. Its trials are runs of an experiment's script, each in its own process. Any
number of workers, on any number of machines, take them from a queue:

    from rnnjax import sweep

    settings = sweep.Settings(
        script="experiments/vanishing_gradients.py",
        search={"learning_rate": "log:1e-4:1e-1:7", "cells": "lstm,gru"},
        set={"steps": "500"},
        objective="*.final_loss",
    )
    sweep.create("sweeps/a", settings)
    sweep.work("sweeps/a")      # in any number of processes, or sweep.run_workers
    sweep.report("sweeps/a")

`python -m rnnjax.sweep` does the same from a shell. The guarantees are in docs/sweeps.md.
"""

from rnnjax.sweep.create import create
from rnnjax.sweep.local import run_workers
from rnnjax.sweep.results import report
from rnnjax.sweep.settings import Settings, Sweep, load
from rnnjax.sweep.storage import open_study
from rnnjax.sweep.trial_table import Trial, trials
from rnnjax.sweep.worker import work

__all__ = [
    "Settings",
    "Sweep",
    "Trial",
    "create",
    "load",
    "open_study",
    "report",
    "run_workers",
    "trials",
    "work",
]
