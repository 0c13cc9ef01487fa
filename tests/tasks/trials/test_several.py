"""Several tasks side by side in one batch, Yang's tasks as a set, their kinds and their score."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.tasks import trials
from rnnjax.tasks.base import Batch

KEY = jax.random.key(3)


def test_trials_of_several_tasks_lie_side_by_side():
    tasks = trials.yang2019_set(("rtgo", "dm2"), dt=100)
    batch = trials.sample_tasks(tasks, KEY, 5)
    for i, (task, key) in enumerate(zip(tasks, jax.random.split(KEY, 2), strict=True)):
        own = task.sample(key, 5)
        for found, wanted in zip(batch, own, strict=True):
            np.testing.assert_array_equal(found[:, 5 * i : 5 * i + 5], wanted)
    rules = np.asarray(batch.inputs[0, :, -len(trials.RULES) :].argmax(-1))
    assert rules.tolist() == [trials.RULES.index("rtgo")] * 5 + [trials.RULES.index("dm2")] * 5


def test_aligned_trials_differ_in_their_conditions_alone():
    tasks = trials.yang2019_set(("go", "dm1"), dt=100)
    found = trials.aligned_trials(tasks, KEY, 40)
    inputs = np.asarray(found.inputs).reshape(tasks[0].total_length, 2, 40, -1)
    for k, task in enumerate(tasks):
        end = task.longest_epochs["decision"].end
        fixation = task.longest_epochs["fixation"].end
        wanted = [fixation <= t < end for t in range(task.total_length)]
        assert np.asarray(found.after_first)[:, k].tolist() == wanted
        cue = inputs[:, k, :, 0]
        assert (cue == cue[:, :1]).all() and cue[0, 0] == 1
        silent = np.concatenate([inputs[:fixation, k, :, 1:33], inputs[end:, k, :, 1:33]])
        assert not silent.any()  # no noise
        for name, values in found.conditions[k]._asdict().items():
            assert len(values) == 40 and len(np.unique(values, axis=0)) > 1, name
    first = np.asarray(found.conditions[0].response)
    stimulus = inputs[tasks[0].longest_epochs["stimulus"].start, 0, :, 1:33]
    assert (stimulus.reshape(40, 2, 16).sum(1).argmax(1) == first).all()


def test_tasks_of_different_shapes_are_refused():
    short, long = (trials.yang2019_tasks()[name] for name in ("rtgo", "dlygo"))
    for function in (trials.sample_tasks, trials.aligned_trials):
        with pytest.raises(ValueError, match=r"same total_length, got \[10, 20\]"):
            function([short, long], KEY, 2)


def test_the_epochs_of_the_longest_trial():
    task = trials.yang2019_tasks(dt=100)["dm1"]  # fixation below 500 ms, stimulus up to 600
    assert {n: (int(e.start), int(e.end)) for n, e in task.longest_epochs.items()} == {
        "fixation": (0, 4),
        "stimulus": (4, 10),
        "decision": (10, 12),
    }
    assert task.longest == 12


def test_a_set_has_the_papers_cue_response_and_noise():
    tasks = trials.yang2019_set(trials.RULES, dt=20, tau=100, sigma=0.01)
    assert [task.rule for task in tasks] == list(trials.RULES)
    assert len({task.total_length for task in tasks}) == 1
    for task in tasks:
        assert task.decision_ms == 500 and task.cue_epochs == task.epoch_names[:-1]  # pyright: ignore
        assert task.step_sigma == pytest.approx(math.sqrt(2 / 0.2) * 0.01)
    assert tasks[0].total_length == max(
        dataclasses.replace(task, length=0).total_length for task in tasks
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ("go", "jump")}, "tasks must be some of go, rtgo, .*, got jump"),
        ({"tasks": ("go", "go")}, "tasks must be one or more, each once, got go go"),
        ({"tasks": ()}, "tasks must be one or more, each once, got none"),
        ({"tasks": ("go",), "dt": 101}, "dt must be positive and at most 100 ms, got 101"),
        ({"tasks": ("go",), "dt": 0}, "dt must be positive and at most 100 ms, got 0"),
    ],
)
def test_wrong_sets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        trials.yang2019_set(**arguments)


def test_kinds_of_pairs():
    found = trials.pairs_by_kind(trials.RULES)
    assert found["alike"] == [
        ("go", "dlygo"),
        ("anti", "dlyanti"),
        ("dm1", "dm2"),
        ("dlydm1", "dlydm2"),
    ]
    unlike = set(found["unlike"])
    assert {("go", "anti"), ("anti", "dm1"), ("dm2", "dms"), ("ctxdm1", "dlydm1")} <= unlike
    neither = set(itertools.combinations(trials.RULES, 2)) - unlike - set(found["alike"])
    assert {("go", "rtgo"), ("dm1", "ctxdm1"), ("ctxdm1", "ctxdm2"), ("dm1", "dlydm2")} <= neither


def test_a_direction_is_right_within_36_degrees_and_after_fixation():
    units, due = 8, jnp.array([[0, 0], [3, 0]])  # the first trial responds at unit 2, 90 degrees
    batch = Batch(jnp.zeros((2, 2, 1)), due, jnp.ones((2, 2), bool))

    def right(fixation, angle, at_end):
        theta = 2 * np.pi * np.arange(units) / units
        ring = 0.5 + 0.3 * np.cos(theta - np.radians(angle))
        outputs = np.zeros((2, 2, units + 1))
        outputs[0, :, 0], outputs[1, :, 0], outputs[:, :, 1:] = fixation, at_end, ring
        return trials.direction_correct(jnp.array(outputs, jnp.float32), batch).tolist()

    assert right(0.9, 90, 0.1) == [True, False]
    assert right(0.9, 90 + 35, 0.1) == right(0.9, 90 - 35, 0.1) == [True, False]
    assert right(0.9, 90 + 37, 0.1) == right(0.9, 270, 0.1) == [False, False]
    assert right(0.9, 90, 0.6) == [False, True]  # still fixates
    assert right(0.4, 90, 0.1) == [False, False]  # responds too early


def test_steps_after_a_trial_do_not_count():
    outputs = jnp.zeros((3, 1, 5)).at[0, 0, 0].set(1.0).at[1, 0, 2].set(1.0)
    due, mask = jnp.array([[0], [2], [0]]), jnp.array([[True], [True], [False]])
    assert trials.direction_correct(outputs, Batch(outputs, due, mask)).tolist() == [True]
