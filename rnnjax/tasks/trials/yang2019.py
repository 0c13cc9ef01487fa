"""The twenty tasks of Yang et al. 2019, which share their inputs, outputs and rule units.

Inputs `[T, B, 1 + 2R + 20]`: the fixation cue, R units on a ring for each of two modalities, and a
unit for each rule, 1 during the whole trial. Labels: 0 to fixate, 1 + i to respond at angle i.

A stimulus at angle theta with strength s gives unit i the input .8 s exp(-(d / (pi / 8))^2 / 2), d
the distance of theta_i from theta. Without the rule units, trials are those of neurogym's
collection yang19, whose definitions differ from the paper's: R = 16 of the paper's 32, locations at
the units' angles, shorter and less variable epochs, and in some families a fixation cue that ends
before the stimulus.

Source: Yang, Joglekar, Song, Newsome, Wang 2019, "Task representations in neural networks trained
to perform many cognitive tasks", Nature Neuroscience 22, figure 1 and methods.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from rnnjax.tasks.trials.base import TrialTask
from rnnjax.tasks.trials.rings import check_even

RULES = (
    *("go", "rtgo", "dlygo", "anti", "rtanti", "dlyanti"),
    *("dm1", "dm2", "ctxdm1", "ctxdm2", "multidm"),
    *("dlydm1", "dlydm2", "ctxdlydm1", "ctxdlydm2", "multidlydm"),
    *("dms", "dnms", "dmc", "dnmc"),
)


@dataclasses.dataclass(frozen=True)
class YangTask(TrialTask):
    """One of the twenty tasks: what its trials have in common with the others'.

    Args:
        rule: its name, one of `RULES`, which sets the rule unit that is on.
        units: R, even.

    Raises:
        ValueError: an argument is out of range; see also `TrialTask`.
    """

    rule: str = "go"
    units: int = 16

    def check_conditions(self) -> None:
        check_even("units", self.units)
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got {self.rule!r}")

    @property
    def input_size(self) -> int:
        return 1 + 2 * self.units + len(RULES)

    @property
    def noisy_units(self) -> slice:
        return slice(1, 1 + 2 * self.units)

    @property
    def answers(self) -> tuple[float, ...]:
        return (0.0,) + self.units * (1 / self.units,)

    def rule_units(self, epochs: Any) -> Any:
        """Return the inputs `[T, 20]` of the rule units."""
        here = self.during(epochs, *self.epoch_names)
        return here[:, None] * (np.arange(len(RULES)) == RULES.index(self.rule))


def of_modality(values: Any, modality: Any) -> Any:
    """Return the inputs `[T, 2R]` of both modalities, of which one has these values `[T, R]`."""
    both = jax.nn.one_hot(modality, 2, dtype=values.dtype)[:, None] * values[:, None, :]
    return both.reshape(len(values), -1)
