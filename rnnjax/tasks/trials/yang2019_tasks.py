"""The twenty tasks of Yang et al. 2019 by name."""

from rnnjax.tasks.trials.durations import Choice
from rnnjax.tasks.trials.yang2019 import YangTask
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
