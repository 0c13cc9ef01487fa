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
from rnnjax.tasks.trials.rings import bumps
from rnnjax.tasks.trials.several import AlignedTrials, aligned_trials, sample_tasks
from rnnjax.tasks.trials.yang2019 import FAMILIES, RULES, direction_correct, pairs_by_kind
from rnnjax.tasks.trials.yang2019_decision import YangDecision, YangDelayedDecision
from rnnjax.tasks.trials.yang2019_match import YangMatchToCategory, YangMatchToSample
from rnnjax.tasks.trials.yang2019_reach import YangDelayedReach, YangReactionReach
from rnnjax.tasks.trials.yang2019_tasks import yang2019_set, yang2019_tasks

__all__ = [
    "FAMILIES",
    "RULES",
    "AlignedTrials",
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
    "aligned_trials",
    "bumps",
    "choices",
    "direction_correct",
    "fit_logistic",
    "pairs_by_kind",
    "psychometric",
    "sample_tasks",
    "yang2019_set",
    "yang2019_tasks",
]
