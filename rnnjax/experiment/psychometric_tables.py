"""Psychometric functions as tables for `figures.psychometric_curves`."""

from typing import Any

import numpy as np

from rnnjax.tasks import trials


def psychometric_tables(chosen: Any, strengths: Any, **columns: Any) -> dict[str, list[Any]]:
    """Return rows of the tables `psychometric` and `psychometric_fits`.

    The first has the share of a choice at each strength, the second the logistic curve of greatest
    likelihood. Its threshold and slope are NaN where no finite slope is best: see
    `tasks.trials.fit_logistic`.

    Args:
        chosen: for each trial, whether the choice was made, `[B]`.
        strengths: the signed strength of the evidence for it, `[B]`.
        columns: the same value in all rows, such as `context="motion"`.
    """
    table = trials.psychometric(chosen, strengths)
    try:
        fit = trials.fit_logistic(chosen, strengths)
    except ValueError:
        fit = trials.LogisticCurve(np.nan, np.nan)
    points = {"strength": table.strengths, "count": table.counts, "share": table.shares}
    return {
        "psychometric": [columns | points],
        "psychometric_fits": [columns | {"threshold": [fit.threshold], "slope": [fit.slope]}],
    }


def draw_psychometrics(run: Any) -> None:
    """Draw the tables of `psychometric_tables` with columns `panel` and `stimulus`."""
    from rnnjax import figures

    figure = figures.psychometric_curves(
        run.read_table("psychometric"),
        run.read_table("psychometric_fits"),
        series="stimulus",
        panel="panel",
        xlabel="coherence towards the first choice, %",
        ylabel="share of first choices",
    )
    run.save_figure("psychometric", figure)
