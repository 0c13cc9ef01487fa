"""The twenty tasks of Yang et al. 2019 by name."""

import dataclasses
import math
from collections.abc import Sequence

from rnnjax.tasks.trials.durations import Choice
from rnnjax.tasks.trials.yang2019 import RULES, YangTask
from rnnjax.tasks.trials.yang2019_decision import YangDecision, YangDelayedDecision
from rnnjax.tasks.trials.yang2019_match import YangMatchToCategory, YangMatchToSample
from rnnjax.tasks.trials.yang2019_reach import YangDelayedReach, YangReactionReach


def yang2019_tasks(
    *, length: int = 0, dt: int | float = 100, units: int = 16
) -> dict[str, YangTask]:
    """Return the twenty tasks by their rules, in the order of `RULES`, with neurogym's timings.

    With the same `length` their batches have one shape, so that a network can train on all of them.

    Args:
        length: T, the steps of the arrays; 0 stands for each task's own longest trial.
        dt: the duration of a step in ms.
        units: R, the units of each ring; even.

    Raises:
        ValueError: an argument is out of range, or `length` is less than a task's longest trial.
    """
    same = {"length": length, "dt": dt, "units": units}
    modalities = {
        "dm1": ((0,), (0,)),
        "dm2": ((1,), (1,)),
        "ctxdm1": ((0, 1), (0,)),
        "ctxdm2": ((0, 1), (1,)),
        "multidm": ((0, 1), (0, 1)),
    }
    tasks: list[YangTask] = [
        YangDelayedReach(rule="go", **same),
        YangReactionReach(rule="rtgo", **same),
        YangDelayedReach(rule="dlygo", delay_ms=500, **same),
        YangDelayedReach(rule="anti", turn=0.5, **same),
        YangReactionReach(rule="rtanti", turn=0.5, **same),
        YangDelayedReach(rule="dlyanti", turn=0.5, delay_ms=500, **same),
    ]
    for rule, (shown, relevant) in modalities.items():
        stimulus = Choice((200, 400, 600)) if rule == "dm1" else 500
        options = {"shown": shown, "relevant": relevant, "stimulus_ms": stimulus}
        tasks.append(YangDecision(rule=rule, **options, **same))
    for rule, (shown, relevant) in modalities.items():
        delayed = rule.replace("dm", "dlydm")
        tasks.append(YangDelayedDecision(rule=delayed, shown=shown, relevant=relevant, **same))
    tasks += [
        YangMatchToSample(rule="dms", **same),
        YangMatchToSample(rule="dnms", respond_to="mismatch", **same),
        YangMatchToCategory(rule="dmc", **same),
        YangMatchToCategory(rule="dnmc", respond_to="mismatch", **same),
    ]
    return {task.rule: task for task in tasks}


def yang2019_set(
    tasks: Sequence[str], *, dt: int | float = 20, tau: int | float = 100, sigma: float = 0.01
) -> list[YangTask]:
    """Return some of the tasks for one network to train on, closer to the paper than neurogym's.

    The fixation cue is on until the response, which lasts 500 ms. Every stimulus has noise, of the
    standard deviation sqrt(2 tau / dt) sigma in each step. All tasks have one length.

    Args:
        tasks: their rules.
        dt: the duration of a step in ms.
        tau: the time constant of the network in ms.
        sigma: as in the paper.

    Raises:
        ValueError: a name is unknown or there are none, or `dt` is not in (0, tau].
    """
    for name in tasks:
        if name not in RULES:
            raise ValueError(f"tasks must be some of {', '.join(RULES)}, got {name}")
    if not tasks or len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks must be one or more, each once, got {' '.join(tasks) or 'none'}")
    if not 0 < dt <= tau:
        raise ValueError(f"dt must be positive and at most {tau:g} ms, got {dt:g}")
    known, made = yang2019_tasks(dt=dt), []
    for task in (known[name] for name in tasks):
        same = {"cue_epochs": task.epoch_names[:-1], "sigma": sigma * math.sqrt(2 * tau)}
        made.append(dataclasses.replace(task, decision_ms=500, **same))  # pyright: ignore
    length = max(task.longest for task in made)
    return [dataclasses.replace(task, length=length) for task in made]
