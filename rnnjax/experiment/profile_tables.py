"""Gradient profiles of networks while they learn: as tables, and as figures.

Tables, a row for each lag or step:

profile_over_training   the whole gradient at every observed step
gradient_profiles       the same before, halfway through and after training, with its half-life
path_split              each part of an LSTM's gradient in these three phases
learning_curves         the training loss
"""

import functools
from typing import Any

import jax

from rnnjax import diagnostics
from rnnjax.experiment.drawing import draw_tables
from rnnjax.experiment.tables import PHASES, Tables, loss_curve, profile_rows
from rnnjax.runs import Run


def record(tables: Tables, name: str, trained: Any) -> dict[int, float]:
    """Add a cell's gradient profiles and losses to the tables; return its half-lives by step.

    A half-life is that of the median over seeds and sequences.

    Args:
        tables: lists of rows by name.
        name: of the cell, in the tables.
        trained: a `training.TrainingResult`. What it observed are natural logs `[S, K, B]` by part
            of the gradient, entry k - 1 at lag k: `joint` is the whole, and an LSTM's is also split
            by path (`carousel`).
    """
    half_lives = {}
    history = trained.observed()
    phases = _phases(list(history))
    for step, profiles in history.items():
        phase = phases.get(step)
        for part, values in profiles.items():
            rows = {"cell": name, "step": step, **profile_rows(values)}
            if part == "joint":
                life = half_lives[step] = float(jax.jit(diagnostics.half_life)(rows["median"]))
                tables["profile_over_training"].append(rows)
                if phase:
                    tables["gradient_profiles"].append({"phase": phase, **rows, "half_life": life})
            if phase and "carousel" in profiles:
                tables["path_split"].append({"phase": phase, "path": part, **rows})
    for chunk in trained.chunks:
        tables["learning_curves"].extend({"cell": name, **row} for row in loss_curve(chunk))
    return half_lives


def _phases(steps):
    """Return the steps before, halfway through and after training; they may coincide."""
    last, size = steps[-1], steps[1]
    middle = size * max(1, last // size // 2)
    return {0: "before", middle: "during", last: "after"}


def draw(run: Run, chance: float) -> None:
    """Draw the tables of a run.

    Args:
        chance: the loss of the best memoryless answer.
    """
    from rnnjax import figures

    table = run.read_table("gradient_profiles")
    steps = dict(zip(table["phase"], table["step"], strict=True))
    titles = {p: f"{title} (step {int(steps[p])})" for p, title in PHASES.items() if p in steps}
    drawings = {
        "gradient_profiles": functools.partial(figures.gradient_profiles, titles=titles),
        "profile_over_training": figures.profile_over_training,
        "learning_curves": functools.partial(figures.learning_curves, chance=chance),
        "path_split": functools.partial(figures.path_split, titles=titles),
    }
    draw_tables(run, drawings)
