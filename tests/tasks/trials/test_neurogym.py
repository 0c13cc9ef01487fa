"""Under the same conditions and timing, trials are neurogym's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.tasks import trials
from rnnjax.tasks.trials import Epoch

FIXTURE = Path(__file__).parents[2] / "fixtures" / "neurogym.npz"
SAME = {"length": 80, "dt": 50, "sigma": 1.3}
YANG = SAME | {"units": 6}
TASKS = {
    "perceptual_decision": trials.PerceptualDecision(directions=5, **SAME),
    "multisensory_decision": trials.MultisensoryDecision(directions=3, **SAME),
    "context_decision": trials.ContextDecision(
        directions=3, cue_epochs=("fixation",), **(SAME | {"length": 90})
    ),
    "delayed_match_to_sample": trials.DelayedMatchToSample(units=4, **SAME),
    "delayed_match_to_category": trials.DelayedMatchToCategory(units=5, **SAME),
    "parametric_working_memory": trials.ParametricWorkingMemory(**SAME),
    "ready_set_go": trials.ReadySetGo(gain=1.5, length=150, dt=50),
    "dlygo": trials.YangDelayedReach(rule="dlygo", **YANG),
    "dlyanti": trials.YangDelayedReach(rule="dlyanti", turn=0.5, **YANG),
    "rtanti": trials.YangReactionReach(rule="rtanti", turn=0.5, **YANG),
    "dm2": trials.YangDecision(rule="dm2", shown=(1,), relevant=(1,), **YANG),
    "ctxdm1": trials.YangDecision(rule="ctxdm1", relevant=(0,), **YANG),
    "multidlydm": trials.YangDelayedDecision(rule="multidlydm", **YANG),
    "dms": trials.YangMatchToSample(rule="dms", **YANG),
    "dnmc": trials.YangMatchToCategory(rule="dnmc", respond_to="mismatch", **YANG),
}


@pytest.fixture(scope="module")
def neurogym():
    with np.load(FIXTURE) as file:
        return dict(file)


def under(arrays, folder):
    return {key.removeprefix(folder): arrays[key] for key in arrays if key.startswith(folder)}


SLOW = "dlygo", "dm2", "dms"  # others are much like them


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TASKS]
)
def test_trials_are_those_of_neurogym(name, neurogym):
    task, theirs = TASKS[name], under(neurogym, f"{name}/")
    drawn = jax.eval_shape(task.draw, jax.random.key(0))
    given = under(theirs, "conditions/")
    conditions = type(drawn)(
        **{k: jnp.asarray(given[k], getattr(drawn, k).dtype) for k in drawn._fields}
    )
    epochs = {k: Epoch(*jnp.asarray(v.T, jnp.int32)) for k, v in under(theirs, "epochs/").items()}
    assert set(given) == set(drawn._fields)
    assert set(epochs) == set(task.epoch_names)

    build = jax.jit(jax.vmap(task.build))
    units = len(range(task.input_size)[task.noisy_units])
    noise = np.ones((5, task.total_length, units), np.float32)
    batch = jax.tree.map(np.asarray, build(conditions, epochs, 0 * noise))
    lengths, length = theirs["length"], theirs["ob"].shape[1]
    np.testing.assert_array_equal(batch.mask.sum(1), lengths)
    np.testing.assert_array_equal(batch.mask.argmin(1), lengths)
    np.testing.assert_array_equal(batch.targets[:, :length], theirs["gt"])
    inputs = batch.inputs[..., : theirs["ob"].shape[2]]
    np.testing.assert_allclose(inputs[:, :length], theirs["ob"], atol=2e-6)
    assert not batch.inputs[~batch.mask].any()
    assert len(np.unique(theirs["gt"])) > 1

    rules = batch.inputs[..., theirs["ob"].shape[2] :]
    if name in trials.RULES:
        on = np.arange(20) == trials.RULES.index(name)
        np.testing.assert_array_equal(rules, batch.mask[..., None] & on)
    else:
        assert rules.shape[-1] == 0

    if "variance" in theirs:  # of 6,000 numbers each: a relative error of .018
        ours = np.square(build(conditions, epochs, noise).inputs - batch.inputs)
        for epoch, variance in zip(theirs["epoch_names"], theirs["variance"], strict=True):
            start = int(epochs[epoch].start[0])
            np.testing.assert_allclose(variance, ours[0, start], rtol=5 * 0.018)


def test_ready_set_go_is_placed_as_in_neurogym(neurogym):
    theirs = under(neurogym, "ready_set_go/epochs/")
    steps = {k: (v[:, 1] - v[:, 0]).astype(np.int32) for k, v in theirs.items()}
    epochs = TASKS["ready_set_go"].place(steps)
    for name, (start, end) in epochs.items():
        np.testing.assert_array_equal(np.stack([start, end], 1), theirs[name])


def test_epochs_follow_each_other_as_in_neurogym(neurogym):
    for name, task in TASKS.items():
        if name == "ready_set_go":
            continue
        theirs = under(neurogym, f"{name}/epochs/")
        steps = {k: (v[:, 1] - v[:, 0]).astype(np.int32) for k, v in theirs.items()}
        for epoch, (start, end) in task.place(steps).items():
            np.testing.assert_array_equal(np.stack([start, end], 1), theirs[epoch])
