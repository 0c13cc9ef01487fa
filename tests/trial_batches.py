"""Trial tasks without noise, many of their trials, and their labels by brute force."""

import functools

import jax
import numpy as np

from rnnjax.tasks import trials
from rnnjax.tasks.trials import Choice, TruncatedExponential, Uniform

MANY = 4096
CLEAN = {"sigma": 0, "length": 37}
TASKS = {
    "perceptual": trials.PerceptualDecision(
        directions=3, stimulus_ms=Choice((200, 500)), delay_ms=Uniform(0, 300), **CLEAN
    ),
    "multisensory": trials.MultisensoryDecision(directions=3, **CLEAN),
    "context": trials.ContextDecision(
        directions=3, delay_ms=TruncatedExponential(400, 100, 1500), **CLEAN
    ),
    "sample": trials.DelayedMatchToSample(units=4, delay_ms=Choice((300, 700)), **CLEAN),
    "category": trials.DelayedMatchToCategory(units=5, **CLEAN),
    "parametric": trials.ParametricWorkingMemory(unscored=("fixation", "delay"), **CLEAN),
    "ready_set_go": trials.ReadySetGo(gain=0.7, length=49),
    "anti": trials.YangDelayedReach(
        rule="anti", turn=0.5, units=4, delay_ms=Choice((0, 500)), **CLEAN
    ),
    "rtgo": trials.YangReactionReach(rule="rtgo", units=4, **CLEAN),
    "ctxdm2": trials.YangDecision(rule="ctxdm2", relevant=(1,), units=6, **CLEAN),
    "multidm": trials.YangDecision(rule="multidm", units=6, **CLEAN),
    "dlydm1": trials.YangDelayedDecision(
        rule="dlydm1", shown=(0,), relevant=(0,), units=6, **CLEAN
    ),
    "dnms": trials.YangMatchToSample(rule="dnms", respond_to="mismatch", units=4, **CLEAN),
    "dmc": trials.YangMatchToCategory(rule="dmc", units=6, **CLEAN),
}


@functools.cache
def draw(name, seed=2016):
    """Many trials of a task as NumPy arrays."""
    sample = jax.jit(TASKS[name].sample_trials, static_argnums=1)
    return jax.tree.map(np.asarray, sample(jax.random.key(seed), MANY))


def ring(inputs, first, units):
    return inputs[:, first : first + units]


def in_epoch(name, drawn, b):
    epoch = drawn.epochs[name]
    return drawn.batch.inputs[epoch.start[b] : epoch.end[b], b]


def label(name, drawn, b):
    """Return the label of trial b as its inputs tell it, or None if they do not."""
    task, see = TASKS[name], lambda epoch: in_epoch(epoch, drawn, b)
    if name == "perceptual":
        units = see("stimulus")[0, 1:]
        return 1 + units.argmax() if np.ptp(units) > 1e-6 else None
    if name == "multisensory":
        units = see("stimulus")[0, 1:]
        return 1 + (units[:3] + units[3:]).argmax()
    if name == "context":
        stimulus = see("stimulus")[0]
        first = 1 if stimulus[7] == 1 else 4
        assert stimulus[7:].sum() == 1
        return 1 + stimulus[first : first + 3].argmax()
    if name == "sample":
        return 1 if (see("sample")[0] == see("test")[0]).all() else 2
    if name == "category":
        sides = [population_angle(see(epoch)[0, 1:]) < np.pi for epoch in ("sample", "test")]
        return 1 if sides[0] == sides[1] else 2
    if name == "parametric":
        return 1 if see("stimulus1")[0, 1] > see("stimulus2")[0, 1] else 2
    modality = 1 if name in ("anti", "rtgo", "dnms", "dmc", "dlydm1") else 0
    both = {k: see(k)[0, 1 : 1 + 2 * task.units].reshape(2, -1) for k in stimulus_epochs(name)}
    if modality:
        both = {k: v.sum(0) for k, v in both.items()}
        places = {k: v.argmax() for k, v in both.items()}
    if name == "anti":
        return 1 + (places["stimulus"] + 2) % 4
    if name == "rtgo":
        return 1 + places["decision"]
    if name == "dnms":
        return 0 if places["sample"] == places["test"] else 1 + places["test"]
    if name == "dmc":
        same = (places["sample"] < 3) == (places["test"] < 3)
        return 1 + places["test"] if same else 0
    if name == "dlydm1":
        last = max(both, key=lambda k: both[k].max())
        return 1 + places[last]
    seen = both["stimulus"][1] if name == "ctxdm2" else both["stimulus"].sum(0)
    conditions = drawn.conditions
    first, second = conditions.first[b], conditions.second[b]
    if abs(seen[first] - seen[second]) < 1e-5:
        return None
    return 1 + (first if seen[first] > seen[second] else second)


def stimulus_epochs(name):
    if name == "rtgo":
        return ["decision"]
    if name in ("dnms", "dmc"):
        return ["sample", "test"]
    return ["stimulus1", "stimulus2"] if name == "dlydm1" else ["stimulus"]


def population_angle(units):
    """Return the angle of the population vector of units on a ring, in [0, 2 pi)."""
    turns = np.exp(2j * np.pi * np.arange(len(units)) / len(units))
    return np.angle(units @ turns) % (2 * np.pi)
