"""Hyperparameter search across programs and machines, on Optuna.

A sweep lives in a directory. Its trials are runs of an experiment's script, each in a process of
its own, taken from a queue by any number of workers on any number of machines:

    from rnnjax import sweep

    settings = sweep.Settings(
        script="experiments/vanishing_gradients.py",
        search={"learning_rate": "log:1e-4:1e-1:7", "cells": "lstm,gru"},
        set={"steps": "500"},
        objective="*.final_loss",
    )
    sweep.create("sweeps/a", settings)
    sweep.work("sweeps/a")      # in as many processes as you like, or sweep.run_workers
    sweep.report("sweeps/a")

`python -m rnnjax.sweep` is the same from a shell. What is guaranteed is in docs/sweeps.md.
"""

from rnnjax.sweep.local import run_workers
from rnnjax.sweep.results import Trial, report, trials
from rnnjax.sweep.study import Settings, Sweep, create, load, open_study
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
