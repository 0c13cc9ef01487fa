"""Trials of context-dependent decisions: a grid without noise, and psychometric functions."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.experiment.psychometric_tables import psychometric_tables
from rnnjax.tasks import trials


class CoherenceTrials(NamedTuple):
    """What `coherence_trials` returns."""

    inputs: Any  # [T, B, D]
    relevant: np.ndarray  # [B], signed coherences of the stimulus that counts, percent
    neutral: Any  # [D], the input during a stimulus without coherence
    start: int  # the first step of the stimulus
    end: int  # the step after its last


def coherence_trials(task: trials.ContextDecision, context: int) -> CoherenceTrials:
    """Return trials without noise: each relevant coherence with the largest other, in both signs.

    Args:
        task: has two directions, and epochs of fixed durations.
        context: the modality that counts, 0 or 1.
    """
    levels = [float(level) for level in task.coherences]
    signed = [-level for level in reversed(levels)] + levels
    grid = [*itertools.product(signed, (-max(levels), max(levels))), (0.0, 0.0)]
    relevant, other = np.array(grid).T
    first, second = (relevant, other) if context == 0 else (other, relevant)
    key = jax.random.key(0)  # durations are fixed, and the conditions are replaced
    epochs, drawn = task.draw_epochs(key), task.draw(key)._replace(context=context)

    def build(first, second):
        choices = {"choice_1": 1 * (first < 0), "choice_2": 1 * (second < 0)}
        strengths = {"coherence_1": abs(first), "coherence_2": abs(second)}
        return task.build(drawn._replace(**choices, **strengths), epochs).inputs

    inputs = jax.vmap(build, out_axes=1)(jnp.asarray(first), jnp.asarray(second))
    start, end = (int(edge) for edge in epochs["stimulus"])
    return CoherenceTrials(inputs[:, :-1], relevant[:-1], inputs[start, -1], start, end)


def add_psychometric_tables(
    tables: dict[str, list[Any]],
    outputs: Any,
    drawn: trials.Trials,
    panels: Sequence[str],
    stimuli: Sequence[str],
) -> None:
    """Add rows of `psychometric_tables` to tables: in each context those of both stimuli.

    Args:
        tables: rows by table.
        outputs: logits of one network, `[T, B, 3]`.
        drawn: trials of `tasks.trials.ContextDecision` with two directions.
        panels: the value of the column `panel` in each context.
        stimuli: the value of the column `stimulus` for each modality.
    """
    given = drawn.conditions
    chosen = np.asarray(trials.choices(outputs, drawn.batch)) == 1
    signs = [np.where(choice == 0, 1.0, -1.0) for choice in (given.choice_1, given.choice_2)]
    strengths = signs[0] * given.coherence_1, signs[1] * given.coherence_2
    for context, m in itertools.product(range(2), range(2)):
        here = np.asarray(given.context) == context
        columns = {"panel": panels[context], "stimulus": stimuli[m]}
        of_one = psychometric_tables(chosen[here], np.asarray(strengths[m])[here], **columns)
        for table, rows in of_one.items():
            tables.setdefault(table, []).extend(rows)
