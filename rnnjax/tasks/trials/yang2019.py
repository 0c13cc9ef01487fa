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
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rnnjax.tasks.base import Batch
from rnnjax.tasks.trials.base import TrialTask, last_steps
from rnnjax.tasks.trials.rings import angles, check_even

FAMILIES = {
    "Go": ("go", "rtgo", "dlygo"),
    "Anti": ("anti", "rtanti", "dlyanti"),
    "DM": ("dm1", "dm2", "ctxdm1", "ctxdm2", "multidm"),
    "Dly DM": ("dlydm1", "dlydm2", "ctxdlydm1", "ctxdlydm2", "multidlydm"),
    "Matching": ("dms", "dnms", "dmc", "dnmc"),
}
RULES = tuple(rule for family in FAMILIES.values() for rule in family)


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


def pairs_by_kind(rules: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return pairs of tasks that are `alike` and `unlike`, in order; other pairs are neither.

    Alike are two of one family that differ in nothing but a delay (Go, Dly Go) or the modality in
    which the stimuli are shown (DM 1, DM 2). Unlike are two of different `FAMILIES`, except DM and
    Dly DM tasks that differ in nothing else.
    """
    found: dict[str, list[tuple[str, str]]] = {"alike": [], "unlike": []}
    family = {rule: name for name, members in FAMILIES.items() for rule in members}
    for a, b in itertools.combinations(rules, 2):
        same = a.replace("dly", "").rstrip("12") == b.replace("dly", "").rstrip("12")
        if family[a] == family[b] and same and not a.startswith("ctx"):
            found["alike"].append((a, b))
        elif family[a] != family[b] and not same:
            found["unlike"].append((a, b))
    return found


def direction_correct(
    outputs: Float[Array, "T B O"], batch: Batch, within: float = np.pi / 5
) -> Bool[Array, " B"]:
    """Return which trials a network performs that fixates and points: the authors' criterion.

    Output 0 says that the network fixates if it is above 1/2. The other R outputs, on a ring, point
    along their population vector sum_i y_i exp(i theta_i). A trial is right if at its last scored
    step the network does what is due: it fixates, or it does not and points within an angle of the
    target's. It must also have fixated at every scored step before the response, which the authors
    do not ask for.

    Args:
        outputs: between 0 and 1.
        batch: of any of the twenty tasks with R units.
        within: radians; the authors' 36 degrees.

    Source: github.com/gyyang/multitask, `get_perf`.
    """
    turns = jnp.exp(1j * jnp.asarray(angles(outputs.shape[-1] - 1), jnp.float32))
    fixates, respond = outputs[..., 0] > 0.5, batch.targets > 0
    off = jnp.angle(outputs[..., 1:] @ turns / turns[batch.targets - 1])
    right = jnp.where(respond, ~fixates & (jnp.abs(off) < within), fixates)
    at_end = jnp.take_along_axis(right, last_steps(batch)[None], axis=0)[0]
    return at_end & (fixates | respond | ~batch.mask).all(axis=0)
