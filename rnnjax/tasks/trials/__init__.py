"""Trial-structured tasks of computational neuroscience.

Each trial has named epochs, conditions such as a coherence or a context, and noise. `sample` gives
the `Batch` that every task gives; `sample_trials` gives conditions and epochs beside it.
"""

from rnnjax.tasks.trials.base import Epoch, Trials, TrialTask, choices
from rnnjax.tasks.trials.context_decision import ContextDecision
from rnnjax.tasks.trials.delayed_match_to_category import DelayedMatchToCategory
from rnnjax.tasks.trials.delayed_match_to_sample import DelayedMatchToSample
from rnnjax.tasks.trials.durations import (
    Choice,
    Distribution,
    Duration,
    TruncatedExponential,
    Uniform,
)
from rnnjax.tasks.trials.multisensory_decision import MultisensoryDecision
from rnnjax.tasks.trials.parametric_working_memory import ParametricWorkingMemory
from rnnjax.tasks.trials.perceptual_decision import PerceptualDecision
from rnnjax.tasks.trials.psychometrics import (
    LogisticCurve,
    Psychometric,
    fit_logistic,
    psychometric,
)
from rnnjax.tasks.trials.ready_set_go import ReadySetGo
from rnnjax.tasks.trials.yang2019 import RULES
from rnnjax.tasks.trials.yang2019_decision import YangDecision, YangDelayedDecision
from rnnjax.tasks.trials.yang2019_match import YangMatchToCategory, YangMatchToSample
from rnnjax.tasks.trials.yang2019_reach import YangDelayedReach, YangReactionReach
from rnnjax.tasks.trials.yang2019_tasks import yang2019_tasks

__all__ = [
    "RULES",
    "Choice",
    "ContextDecision",
    "DelayedMatchToCategory",
    "DelayedMatchToSample",
    "Distribution",
    "Duration",
    "Epoch",
    "LogisticCurve",
    "MultisensoryDecision",
    "ParametricWorkingMemory",
    "PerceptualDecision",
    "Psychometric",
    "ReadySetGo",
    "TrialTask",
    "Trials",
    "TruncatedExponential",
    "Uniform",
    "YangDecision",
    "YangDelayedDecision",
    "YangDelayedReach",
    "YangMatchToCategory",
    "YangMatchToSample",
    "YangReactionReach",
    "choices",
    "fit_logistic",
    "psychometric",
    "yang2019_tasks",
]
