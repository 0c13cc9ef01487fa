"""Trial tasks: epochs, labels by brute force, chance, success, keys and types."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trial_batches import MANY, TASKS, draw, label

from rnnjax.tasks import trials
from rnnjax.tasks.trials import Choice, TruncatedExponential, Uniform, choices
from rnnjax.tasks.trials.durations import step_table

SLOW = "multisensory", "sample", "rtgo", "ctxdm2", "dnms"  # others are much like them
every_task = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TASKS]
)


def cued(task, drawn):
    """Where the fixation cue is to be on, by a loop over epochs."""
    on = np.zeros(drawn.batch.mask.shape, bool)
    for b in range(MANY):
        for epoch in task.cue_epochs:
            on[drawn.epochs[epoch].start[b] : drawn.epochs[epoch].end[b], b] = True
    return on


@every_task
def test_arrays_and_epochs_have_their_shapes_and_durations(name):
    task, drawn = TASKS[name], draw(name)
    inputs, targets, mask = drawn.batch
    assert inputs.shape == (task.total_length, MANY, task.input_size)
    assert targets.shape == mask.shape == inputs.shape[:2]
    assert (inputs.dtype, targets.dtype, mask.dtype) == (np.float32, np.int32, bool)
    assert all(len(leaf) == MANY for leaf in jax.tree.leaves(drawn.conditions))
    assert sorted(task.epoch_names) == sorted(drawn.epochs)

    for epoch, duration in task.durations.items():
        start, end = drawn.epochs[epoch]
        assert start.dtype == end.dtype == np.int32 and start.shape == (MANY,)
        steps, odds = step_table(duration, task.dt)
        counts = np.array([(end - start == k).sum() for k in steps])
        assert counts.sum() == MANY
        square = ((counts - odds * MANY) ** 2 / (odds * MANY)).sum()
        assert square <= len(steps) - 1 + 5 * math.sqrt(2 * (len(steps) - 1)) + 1e-6
    np.testing.assert_array_equal(inputs[..., 0] == 1, cued(task, drawn))
    if name != "ready_set_go":
        for before, after in zip(task.epoch_names, task.epoch_names[1:], strict=False):
            np.testing.assert_array_equal(drawn.epochs[before].end, drawn.epochs[after].start)

    time = np.arange(task.total_length)[:, None]
    last = drawn.epochs[task.epoch_names[-1]]
    inside = time < last.end
    assert not inputs[~inside].any()
    expected = inside.copy()
    for epoch in task.unscored:
        expected &= (time < drawn.epochs[epoch].start) | (time >= drawn.epochs[epoch].end)
    np.testing.assert_array_equal(mask, expected)
    assert not targets[time < last.start].any()
    assert not targets[~mask].any()
    assert set(np.unique(targets)) == set(range(task.output_size))


@every_task
def test_labels_are_those_that_the_inputs_tell(name):
    if name == "ready_set_go":  # see the next test
        return
    task, drawn = TASKS[name], draw(name)
    answer, told = drawn.epochs[task.epoch_names[-1]], 0
    for b in range(400):
        expected = label(name, drawn, b)
        if expected is not None:
            told += 1
            targets = drawn.batch.targets[answer.start[b] : answer.end[b], b]
            assert targets.tolist() == [expected] * len(targets), b
    assert told >= 250


def test_ready_set_go_asks_for_the_interval_between_the_cues():
    drawn = draw("ready_set_go")
    for b in range(400):
        inputs, targets = drawn.batch.inputs[:, b], drawn.batch.targets[:, b]
        ready, cue = (np.flatnonzero(inputs[:, unit]) for unit in (1, 2))
        (go,) = np.flatnonzero(targets)
        measured = cue[0] - ready[0]
        assert go == cue[-1] + 1 + math.floor(0.7 * measured + 1e-6)
        assert drawn.batch.mask[:, b].sum() == cue[-1] + 1 + math.floor(1.4 * measured + 1e-6)
        assert not inputs[cue[-1] + 1 :, 0].any() and inputs[: cue[-1] + 1, 0].all()


@every_task
def test_conditions_are_balanced(name):
    """Every label that asks for a response is as frequent as `answers` says."""
    task, drawn = TASKS[name], draw(name)
    at_end = drawn.epochs[task.epoch_names[-1]].end - 1
    if name == "ready_set_go":
        return
    counts = np.bincount(drawn.batch.targets[at_end, np.arange(MANY)], minlength=task.output_size)
    expected = np.array(task.answers) * MANY
    assert expected.sum() == pytest.approx(MANY)
    spread = 4.5 * np.sqrt(expected * (1 - expected / MANY))
    assert (np.abs(counts - expected) <= spread).all()


def test_strengths_that_are_even_are_answered_at_random():
    drawn = draw("multidm")
    strengths = drawn.conditions.strengths.astype(np.float64).sum(2)
    even = np.abs(strengths[:, 0] - strengths[:, 1]) < 1e-6
    assert abs(even.mean() - 1 / 8) < 4.5 * math.sqrt(7 / 64 / MANY)
    share = drawn.conditions.towards_first[even].mean()
    assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(even.sum())


@every_task
def test_chance_is_the_loss_of_the_best_fixed_answer(name):
    task, (_, targets, mask) = TASKS[name], draw(name).batch
    hot = np.eye(task.output_size)[targets] * (mask / mask.sum(0))[..., None]
    weights = hot.sum(1)
    answer = np.log(weights / np.maximum(weights.sum(1, keepdims=True), 1e-30) + 1e-30)
    losses = -(hot * answer[:, None]).sum((0, 2))
    error = 5 * losses.std() / math.sqrt(MANY)
    assert abs(losses.mean() - task.chance) < error + 4e-3 * task.chance


def test_chance_in_closed_form():
    assert trials.PerceptualDecision().chance == pytest.approx(math.log(2) / 22)
    assert trials.YangDelayedReach().chance == pytest.approx(5 / 15 * math.log(16))
    before = "fixation", "stimulus", "delay"
    alone = trials.PerceptualDecision(
        directions=3, unscored=before, stimulus_ms=Uniform(100, 2000), decision_ms=300
    )  # a step that can hold an answer holds no other label
    assert alone.chance == pytest.approx(math.log(3))
    # one or two steps of fixation, then one of the answer: step 1 holds either
    either = trials.YangReactionReach(units=2, dt=1, fixation_ms=Choice((1, 2)), decision_ms=1)
    answer, rest = 1 / 4, 1 / 6  # the weights of an answer, and of fixation, at step 1
    expected = answer * (math.log(2) + math.log((answer + rest) / answer))
    expected += rest * math.log((answer + rest) / rest) + math.log(2) / 6
    assert either.chance == pytest.approx(expected)


SCORED = (
    "perceptual",
    "ready_set_go",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in TASKS
        if name not in ("perceptual", "ready_set_go")
    ),
)


@pytest.mark.parametrize("name", SCORED)
def test_the_right_answer_succeeds_and_a_shuffled_one_does_not(name):
    task, batch = TASKS[name], jax.tree.map(lambda x: x[:, :512], draw(name).batch)

    @jax.jit
    def judge(answers, batch):
        outputs = 60 * jax.nn.one_hot(answers, task.output_size)
        return task.metrics(outputs, batch), choices(outputs, batch)

    metrics, chosen = judge(batch.targets, batch)
    last = 36 - batch.mask[::-1].argmax(0) if name != "ready_set_go" else None
    if last is not None:
        np.testing.assert_array_equal(chosen, batch.targets[last, np.arange(512)])
    assert metrics["accuracy"] == 1 and metrics["loss"] < 1e-6
    assert task.success(metrics) is True
    order = np.random.default_rng(1).permutation(512)
    shuffled = np.where(batch.mask, batch.targets[:, order], 0)
    metrics, _ = judge(shuffled, batch)
    assert metrics["loss"] > task.chance and not task.success(metrics)
    metrics, _ = judge(0 * batch.targets, batch)
    assert not task.success(metrics)


def test_ready_set_go_judges_the_first_go_by_neurogyms_margin():
    task, batch = TASKS["ready_set_go"], draw("ready_set_go").batch
    batch = jax.tree.map(lambda x: x[:, :5], batch)
    correct = jax.jit(lambda answers: task.correct(jax.nn.one_hot(answers, 2), batch))
    go = batch.targets.argmax(0)
    production = np.array([np.flatnonzero(batch.inputs[:, b, 0] == 0)[0] for b in range(5)])
    for shift in range(-5, 6):
        answers = np.zeros_like(batch.targets)
        answers[go + shift, np.arange(5)] = 1
        answers[go + 6, np.arange(5)] = 1  # too late to count
        answers[:2] = 1  # before production
        allowed = 0.2 * 80 * (go - production) + 25
        np.testing.assert_array_equal(correct(answers), 80 * abs(shift) <= allowed)


def test_keys_decide_and_a_smaller_batch_is_a_prefix():
    task = TASKS["anti"]
    again = jax.jit(task.sample, static_argnums=1)(jax.random.key(2016), 7)
    for some, many in zip(again, draw("anti").batch, strict=True):
        np.testing.assert_array_equal(some, many[:, :7])
    conditions = draw("anti").conditions
    assert len(np.unique(conditions.response[:64])) == 4
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, got 0"):
        task.sample_trials(jax.random.key(0), 0)


def test_types_do_not_depend_on_x64():
    with jax.enable_x64(True):
        for name in [name for name in TASKS if name not in SLOW]:
            task = TASKS[name]
            wide = jax.eval_shape(lambda task=task: task.sample_trials(jax.random.key(0), MANY))
            for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(draw(name)), strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype), name


def test_noise_is_gaussian_anew_in_each_step_and_unit():
    task = trials.PerceptualDecision(
        directions=3, dt=50, sigma=1.3, coherences=(0,), fixation_ms=50, stimulus_ms=250
    )
    batch = jax.jit(task.sample, static_argnums=1)(jax.random.key(3), MANY)
    noise = np.asarray(batch.inputs, np.float64)[1:6, :, 1:] - 0.5
    assert not batch.inputs[[0, 6, 7], :, 1:].any()
    variance, count = 1.3**2 / 50, noise.size
    assert abs(noise.mean()) < 4 * math.sqrt(variance / count)
    assert abs(noise.var() / variance - 1) < 4 * math.sqrt(2 / count)
    assert abs((noise**4).mean() / variance**2 - 3) < 4 * math.sqrt(96 / count)
    parts = noise.swapaxes(1, 2).reshape(15, MANY)
    correlation = np.corrcoef(parts) - np.eye(15)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(MANY)


def test_tasks_are_hashable_and_equal_ones_share_a_compilation():
    for task in TASKS.values():
        assert hash(task) == hash(dataclasses.replace(task))


def test_the_twenty_tasks_of_yang():
    tasks = trials.yang2019_tasks(length=40)
    assert tuple(tasks) == trials.RULES and len(set(tasks.values())) == 20
    shapes = set()
    for name, task in tasks.items():
        assert task.rule == name
        batch = jax.eval_shape(lambda task=task: task.sample(jax.random.key(0), 3))
        shapes.add((batch.inputs.shape, task.output_size))
    assert shapes == {((40, 3, 53), 17)}
    assert tasks["dlydm2"].shown == tasks["dm2"].relevant == (1,)
    assert tasks["ctxdlydm1"].shown == (0, 1) and tasks["ctxdlydm1"].relevant == (0,)
    assert trials.yang2019_tasks(dt=20)["dms"].total_length == 160


REACH = trials.YangDelayedReach
WRONG = [
    (lambda: trials.PerceptualDecision(length=21), "length must be at least the 22 steps that "
     "the epochs of PerceptualDecision can take at dt = 100 ms, got 21"),
    (lambda: trials.ReadySetGo(length=50), "length must be at least the 56 steps that the epochs "
     "of ReadySetGo can take at dt = 80 ms, got 50"),
    (lambda: trials.PerceptualDecision(length=-1), "length must be an integer of at least 0"),
    (lambda: trials.PerceptualDecision(dt=0), "dt must be positive, got 0"),
    (lambda: trials.PerceptualDecision(sigma=-1), "sigma must be a finite number of at least 0"),
    (lambda: trials.PerceptualDecision(criterion=0), r"criterion must lie in \(0, 1\], got 0"),
    (lambda: trials.PerceptualDecision(delay_ms=-5), "delay_ms must be a finite number of at "),
    (lambda: trials.PerceptualDecision(decision_ms=50), "decision_ms must be at least a step of "
     "dt = 100 ms, got 50"),
    (lambda: trials.PerceptualDecision(decision_ms=Uniform(50, 500)), "decision_ms must be at "
     r"least a step of dt = 100 ms, got Uniform\(low=50, high=500\)"),
    (lambda: trials.PerceptualDecision(unscored=("decision",)), "unscored must name some of "
     "fixation, stimulus, delay, got 'decision'"),
    (lambda: trials.PerceptualDecision(cue_epochs=("set",)), "cue_epochs must name some of "
     r"fixation, stimulus, delay, decision, got \('set',\)"),
    (lambda: trials.ReadySetGo(cue_epochs=("fixation",)), "cue_epochs of ReadySetGo must be "),
    (lambda: trials.PerceptualDecision(directions=1), "directions must be an integer of at least "),
    (lambda: trials.MultisensoryDecision(coherences=()), r"coherences must hold numbers in "
     r"\[0, 100\], got \(\)"),
    (lambda: trials.ContextDecision(coherences=(5, 101)), "coherences must hold numbers in "),
    (lambda: trials.ContextDecision(contexts=(2,)), r"contexts must be \(0, 1\), \(0,\) or "),
    (lambda: trials.DelayedMatchToSample(units=3), "units must be even, got 3"),
    (lambda: trials.ParametricWorkingMemory(pairs=((3, 5),)), r"pairs must hold \(high, low\), "
     r"two numbers each, got \(3, 5\)"),
    (lambda: trials.ReadySetGo(gain=0), "gain must be a positive number, got 0"),
    (lambda: trials.ReadySetGo(ready_ms=900), "ready_ms must be at most the shortest measure_ms, "
     "10 steps of dt = 80 ms, got 900"),
    (lambda: trials.ReadySetGo(gain=0.05), "measure_ms times the gain 0.05 must be at least a "),
    (lambda: REACH(rule="rest"), "rule must be one of go, rtgo, .*, got 'rest'"),
    (lambda: REACH(turn=0.25), "turn must be 0 or 0.5, got 0.25"),
    (lambda: trials.YangDecision(shown=(0,)), r"relevant must hold some of 0, each once, got "),
    (lambda: trials.YangDecision(shown=()), r"shown must hold some of 0, 1, each once, got \(\)"),
    (lambda: trials.YangDelayedDecision(coherences=(0.3,)), "coherences must hold at least two "),
    (lambda: trials.YangMatchToSample(respond_to="both"), "respond_to must be match or mismatch"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments_are_refused_in_a_sentence(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_outputs_of_another_shape_are_refused():
    task, batch = TASKS["ready_set_go"], draw("ready_set_go").batch
    with pytest.raises(ValueError, match=r"outputs must be \[T, B, O\]"):
        task.correct(jnp.zeros((49, MANY, 3)), batch)


def test_a_truncated_exponential_fits_in_the_default_length():
    assert trials.ContextDecision().total_length == 3 + 7 + 29 + 1
    longer = trials.ContextDecision(delay_ms=TruncatedExponential(600, 300, 3001))
    assert longer.total_length == 3 + 7 + 30 + 1


def test_ready_set_go_with_one_trial_of_each_interval():
    task = trials.ReadySetGo(dt=50, measure_ms=Uniform(200, 400), sigma=0.5)
    found = task.trials_of([4, 7])
    for k, measured in enumerate((4, 7)):
        same = dataclasses.replace(
            task, measure_ms=50 * measured, length=task.total_length, sigma=0
        )
        expected = same.sample_trials(jax.random.key(0), 1)
        for got, want in zip(found.batch, expected.batch, strict=True):
            np.testing.assert_array_equal(got[:, k], want[:, 0])
        for name, epoch in expected.epochs.items():
            assert [int(t[k]) for t in found.epochs[name]] == [int(t[0]) for t in epoch]
    with pytest.raises(ValueError, match="intervals must be some of"):
        task.trials_of([3])
    with pytest.raises(ValueError, match="fixation_ms must be one number"):
        dataclasses.replace(task, fixation_ms=Uniform(100, 200)).trials_of([4])
