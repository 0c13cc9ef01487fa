"""Tasks against their definitions, read again in NumPy from the arrays that they sample."""

import dataclasses
import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnjax.tasks import (
    AddingArjovsky2016,
    AddingHochreiter1997,
    Batch,
    Classification,
    CopyMemory,
    PixelDigits,
    Regression,
    TemporalOrder,
    last_answer,
)
from rnnjax.tasks import __all__ as exported
from rnnjax.tasks.base import check_integer

SMALLEST = [
    AddingArjovsky2016(2),
    AddingHochreiter1997(10),
    CopyMemory(1, symbols=2, memorise=1),
    TemporalOrder(10),
    TemporalOrder(10, symbols=3),
]
USUAL = [  # arrays of 45 steps each, so that little is compiled twice
    AddingArjovsky2016(45),
    AddingHochreiter1997(41),
    CopyMemory(37, symbols=5, memorise=4),
    TemporalOrder(45),
    TemporalOrder(45, symbols=3),
]
MANY = 8192

every_task = pytest.mark.parametrize("task", SMALLEST + USUAL, ids=repr)
usual_task = pytest.mark.parametrize("task", USUAL, ids=repr)


@pytest.fixture(scope="module", autouse=True)
def compile_fast():
    """Compiling is what these tests cost, and what is compiled hardly runs."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.cache
def sampler(task):
    return jax.jit(task.sample, static_argnums=1)


@functools.cache
def draw(task, seed=2016):
    """Many sequences as NumPy arrays, sampled under jit."""
    return jax.tree.map(np.asarray, sampler(task)(jax.random.key(seed), MANY))


def few(task):
    """The first seven of them."""
    return jax.tree.map(lambda x: x[:, :7], draw(task))


@functools.cache
def evaluator(task):
    return jax.jit(
        lambda outputs, batch: {
            "loss": task.loss(outputs, batch),
            "gradient": jax.grad(task.loss)(outputs, batch),
            "example_losses": task.example_losses(outputs, batch),
            "correct": task.correct(outputs, batch),
            "metrics": task.metrics(outputs, batch),
        }
    )


def evaluate(task, outputs, batch):
    """Everything that a task says about these outputs."""
    return jax.tree.map(np.asarray, evaluator(task)(outputs, batch))


def perfect(task, batch):
    """Outputs of a network that knows the answers."""
    if isinstance(task, Regression):
        return batch.targets
    return 60 * np.eye(task.output_size, dtype=np.float32)[batch.targets]


def fixed(task, batch):
    """The memoryless outputs, one vector a step, that suit this very batch best."""
    shape = (*batch.mask.shape, task.output_size)
    if isinstance(task, Regression):
        count = np.maximum(batch.mask.sum(1), 1)[:, None]
        answer = (batch.targets * batch.mask[..., None]).sum(1) / count
    else:
        answer = np.log(np.eye(task.output_size)[batch.targets].mean(1) + 1e-30)
    return np.broadcast_to(answer[:, None], shape).astype(np.float32)


def noise(task, batch, seed=1):
    shape = (*batch.mask.shape, task.output_size)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_uniform(samples, low, high):
    """All of low .. high - 1 occur, nothing else does, and the counts pass a chi-square bound."""
    counts = np.bincount(np.asarray(samples) - low, minlength=high - low)
    assert len(counts) == high - low, "a sample lies outside the window"
    assert counts.min() > 0, "the window's ends are not reached"
    expected = len(samples) / (high - low)
    freedom = high - low - 1
    assert ((counts - expected) ** 2 / expected).sum() <= freedom + 4 * math.sqrt(2 * freedom)


# Sampling


def test_the_package_exports_what_it_names():
    assert set(exported) >= {type(task).__name__ for task in USUAL} | {"Batch", "Task"}
    assert list(exported) == sorted(exported)


@every_task
def test_arrays_are_time_major_with_the_declared_sizes(task):
    inputs, targets, mask = batch = draw(task)
    assert isinstance(batch, Batch)
    assert inputs.shape == (task.total_length, MANY, task.input_size)
    assert inputs.dtype == np.float32
    assert mask.shape == inputs.shape[:2]
    assert mask.dtype == bool
    assert mask.any(axis=0).all()
    if isinstance(task, Regression):
        assert targets.shape == (*mask.shape, task.output_size)
        assert targets.dtype == np.float32
    else:
        assert targets.shape == mask.shape
        assert targets.dtype == np.int32
        assert set(np.unique(targets[mask])) == set(range(task.output_size))
    assert not targets[~mask].any()


@usual_task
def test_a_key_fixes_the_batch_under_jit_and_not(task):
    eager = task.sample(jax.random.key(2016), MANY)
    for again, once in zip(eager, draw(task), strict=True):
        np.testing.assert_array_equal(again, once)
    assert (draw(task).inputs != draw(task, seed=1).inputs).any()


@usual_task
def test_sequences_and_steps_differ(task):
    inputs = draw(task).inputs[:, :64]
    assert len({sequence.tobytes() for sequence in inputs.swapaxes(0, 1)}) > 60
    assert len({step.tobytes() for step in inputs}) > task.total_length / 10


@usual_task
def test_types_do_not_depend_on_x64(task):
    with jax.enable_x64(True):
        wide = jax.eval_shape(lambda: task.sample(jax.random.key(0), 7))
    assert [(x.shape, x.dtype) for x in wide] == [(x.shape, x.dtype) for x in few(task)]


def test_sampling_runs_inside_a_scan_and_equal_tasks_share_its_compilation():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def mean_input(task, key):
        traces.append(task)

        def step(total, key):
            return total + task.sample(key, 2).inputs.mean(), None

        return jax.lax.scan(step, 0.0, jax.random.split(key, 3))[0] / 3

    for seed in range(2):
        assert mean_input(TemporalOrder(45), jax.random.key(seed)) == pytest.approx(1 / 6)
    assert traces == [TemporalOrder(45)]


# Definitions


@pytest.mark.parametrize("length", [2, 45])
def test_adding_arjovsky2016_is_as_defined(length):
    inputs, targets, mask = draw(AddingArjovsky2016(length))
    value, marker = inputs[..., 0].astype(np.float64), inputs[..., 1]
    assert np.isin(marker, [0, 1]).all()
    assert (marker.sum(0) == 2).all()
    first, second = np.argwhere(marker.T)[:, 1].reshape(-1, 2).T
    assert_uniform(first, 0, length // 2)
    assert_uniform(second, length // 2, length)
    assert_uniform((value * 10).astype(int).ravel(), 0, 10)
    assert value.max() < 1
    np.testing.assert_array_equal(mask.argmax(0), length - 1)
    assert (mask.sum(0) == 1).all()
    each = np.arange(MANY)
    expected = value[first, each] + value[second, each]
    np.testing.assert_allclose(targets[-1, :, 0], expected, atol=1e-6)
    if length > 3:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
        assert abs(np.corrcoef(value[first, each], value[second, each])[0, 1]) < 0.05


@pytest.mark.parametrize("length", [10, 41, 100])
def test_adding_hochreiter1997_is_as_defined(length):
    task = AddingHochreiter1997(length)
    inputs, targets, mask = draw(task)
    value, marker = inputs[..., 0].astype(np.float64), inputs[..., 1]
    assert task.total_length == math.floor(Fraction(11, 10) * length)
    assert (mask.sum(0) == 1).all()
    last, each, step = mask.argmax(0), np.arange(MANY), np.arange(task.total_length)
    assert_uniform(last + 1, length, task.total_length + 1)

    inside = step[:, None] <= last
    assert not inputs[~inside].any()
    assert_uniform(np.floor(value[inside] * 10).astype(int), -10, 10)
    assert (marker[0] == -1).all()
    assert (marker[last, each] == -1).all()
    assert ((marker == -1).sum(0) == 2).all()
    assert np.isin(marker, [-1, 0, 1]).all()
    expected = 0.5 + (value * (marker == 1)).sum(0) / 4
    np.testing.assert_allclose(targets[last, each, 0], expected, atol=1e-6)

    seen = (marker == 1).sum(0)
    lost = 1 / 10 + 9 / 10 / (length // 2 - 1) + (length == 10) / 20
    assert set(np.unique(seen)) <= ({0, 1, 2} if length == 10 else {1, 2})
    assert abs((2 - seen).mean() - lost) < 4 * math.sqrt(lost / MANY)
    assert marker[max(10, length // 2) :].max() <= 0  # no mark beyond the two windows
    if length == 100:  # the marks' joint law, from the pairs that kept both marks
        pairs = np.argwhere(marker[:, seen == 2].T == 1)[:, 1].reshape(-1, 2)
        late = pairs[pairs[:, 1] >= 10]  # here the earlier mark is surely the first
        assert_uniform(late[:, 0], 1, 10)
        assert_uniform(late[:, 1], 10, length // 2)
        both_early = len(pairs) - len(late)  # 9/10 first not at 0, then 8 of 49
        assert abs(both_early / MANY - 0.9 * 8 / 49) < 0.015


@pytest.mark.parametrize("task", [SMALLEST[2], USUAL[2]], ids=repr)
def test_copy_memory_is_as_defined(task):
    inputs, targets, mask = draw(task)
    wait, symbols, memorise = task.length, task.symbols, task.memorise
    assert len(inputs) == wait + 2 * memorise
    assert mask.all()
    assert set(np.unique(inputs)) == {0, 1}
    assert (inputs.sum(-1) == 1).all()
    read = inputs.argmax(-1)
    assert (read[memorise : memorise + wait - 1] == symbols).all()
    assert (read[memorise + wait - 1] == symbols + 1).all()
    assert (read[memorise + wait :] == symbols).all()
    assert (targets[: memorise + wait] == symbols).all()
    np.testing.assert_array_equal(targets[memorise + wait :], read[:memorise])
    for position in range(memorise):
        assert_uniform(read[position], 0, symbols)
    if memorise > 1:
        assert_uniform(read[0] * symbols + read[1], 0, symbols**2)


@pytest.mark.parametrize("length", [10, 45])
@pytest.mark.parametrize("symbols", [2, 3])
def test_temporal_order_is_as_defined(length, symbols):
    inputs, targets, mask = draw(TemporalOrder(length, symbols))
    shares = {2: (0.1, 0.5), 3: (0.1, 0.3, 0.6)}[symbols]
    assert set(np.unique(inputs)) == {0, 1}
    assert (inputs.sum(-1) == 1).all()
    assert mask[-1].all()
    assert not mask[:-1].any()

    read = inputs.argmax(-1)
    assert ((read < 2).sum(0) == symbols).all()
    positions = np.argwhere(read.T < 2)[:, 1].reshape(-1, symbols).T
    for share, position in zip(shares, positions, strict=True):
        start = math.floor(share * length + 1e-9)
        assert_uniform(position, start, start + math.floor(length / 10))
    label = np.zeros(MANY, int)
    for position in positions:
        label = 2 * label + read[position, np.arange(MANY)]
    np.testing.assert_array_equal(targets[-1], label)
    assert_uniform(label, 0, 2**symbols)
    assert_uniform(read[read >= 2], 2, 6)


# Chance


@every_task
def test_chance_is_the_loss_of_the_best_fixed_answer(task):
    batch = draw(task)
    found = evaluate(task, fixed(task, batch), batch)
    error = 5 * found["example_losses"].std() / math.sqrt(MANY)
    assert abs(found["loss"] - task.chance) < error + 2e-3 * task.chance
    assert not task.success(found["metrics"])


def test_published_chance_levels():
    assert AddingArjovsky2016(750).chance == pytest.approx(1 / 6, abs=1e-15)
    copies = [CopyMemory(length).chance for length in (100, 200, 300, 500)]
    assert copies == pytest.approx([0.1733, 0.0945, 0.0650, 0.0400], abs=5e-5)
    assert TemporalOrder(50).chance == math.log(4)
    assert TemporalOrder(50, symbols=3).chance == pytest.approx(math.log(8))
    assert AddingHochreiter1997(10**6).chance == pytest.approx(1.9 / 48, rel=1e-5)


@given(st.integers(10, 60))
def test_adding_hochreiter1997_chance_by_enumeration(length):
    """Walk through every sequence length and every pair of marks, with exact weights."""
    variance = Fraction(0)
    total_lengths = range(length, length + length // 10 + 1)
    for total_length in total_lengths:
        for first in range(10):
            unmarked = [step for step in range(total_length) if step != first]
            for second in unmarked[: length // 2 - 1]:
                kept = {first, second} - {0, total_length - 1}
                weight = Fraction(1, len(total_lengths) * 10 * (length // 2 - 1))
                variance += weight * len(kept) * Fraction(1, 3) / 16
    assert AddingHochreiter1997(length).chance == pytest.approx(float(variance), rel=1e-12)


def test_adding_hochreiter1997_chance_is_not_one_in_24():
    task = AddingHochreiter1997(100)
    targets = np.concatenate([draw(task, seed=s).targets.sum(0)[:, 0] for s in range(4)])
    error = 4 * np.square(targets - 0.5).std() / math.sqrt(len(targets))
    assert abs(targets.mean() - 0.5) < 0.01
    assert abs(targets.var() - task.chance) < error < (1 / 24 - task.chance) / 1.5


# Losses, metrics, success


@every_task
def test_a_perfect_answer_succeeds(task):
    batch = draw(task)
    found = evaluate(task, perfect(task, batch), batch)
    metrics = found["metrics"]
    assert {"loss", "accuracy"} <= set(metrics)
    assert all(value.shape == () for value in metrics.values())
    assert metrics["loss"] == 0
    assert metrics["accuracy"] == 1
    assert found["correct"].shape == (MANY,)
    assert task.success(metrics) is True
    assert task.success({name: float(value) for name, value in metrics.items()}) is True


@usual_task
def test_losses_are_as_in_numpy(task):
    batch = few(task)
    outputs = noise(task, batch)
    wide = outputs.astype(np.float64)
    expected, accuracy = [], []
    for b in range(7):
        losses, hits = [], []
        for t in np.flatnonzero(batch.mask[:, b]):
            answer, target = wide[t, b], batch.targets[t, b]
            if isinstance(task, Regression):
                losses.append(np.mean((answer - target) ** 2))
                hits.append(bool(np.all(np.abs(answer - target) < task.tolerance)))
            else:
                losses.append(math.log(np.exp(answer).sum()) - answer[target])
                hits.append(answer.argmax() == target)
        expected.append(np.mean(losses))
        judged = hits[-task.memorise :] if isinstance(task, CopyMemory) else hits
        accuracy.append(all(judged))
    found = evaluate(task, outputs, batch)
    np.testing.assert_allclose(found["example_losses"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], np.mean(expected), rtol=1e-5)
    np.testing.assert_allclose(found["metrics"]["loss"], np.mean(expected), rtol=1e-5)
    np.testing.assert_array_equal(found["correct"], accuracy)
    np.testing.assert_allclose(found["metrics"]["accuracy"], np.mean(accuracy))


@every_task
def test_loss_is_the_mean_over_examples(task):
    batch = draw(task)
    found = evaluate(task, fixed(task, batch), batch)
    assert found["example_losses"].shape == (MANY,)
    assert found["example_losses"].std() > 0
    np.testing.assert_allclose(found["loss"], found["example_losses"].mean(), rtol=1e-5)


@usual_task
def test_unscored_steps_have_no_influence(task):
    batch = few(task)
    batch = batch._replace(mask=batch.mask & (np.arange(7) != 3))  # one has no scored step
    outputs = noise(task, batch)
    tame = evaluate(task, outputs, batch)
    assert (np.abs(tame["gradient"]).sum(-1)[batch.mask] > 0).all()
    assert not tame["gradient"][~batch.mask].any()
    assert tame["example_losses"][3] == 0

    wild = evaluate(task, np.where(batch.mask[..., None], outputs, np.nan), batch)
    assert wild["loss"] == tame["loss"]
    np.testing.assert_array_equal(wild["gradient"], tame["gradient"])

    batch = few(task)
    wild = np.where(batch.mask[..., None], perfect(task, batch), np.float32(9))
    assert evaluate(task, wild, batch)["metrics"] == {"loss": 0, "accuracy": 1}


@usual_task
def test_gradients_are_closed_forms(task):
    batch = few(task)
    outputs = noise(task, batch)
    gradient = evaluate(task, outputs, batch)["gradient"]
    weight = batch.mask[..., None] / batch.mask.sum(0)[:, None] / 7
    if isinstance(task, Classification):
        odds = np.exp(outputs)
        hot = np.eye(task.output_size)[batch.targets]
        expected = weight * (odds / odds.sum(-1, keepdims=True) - hot)
    else:
        expected = weight * 2 * (outputs - batch.targets)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("task", USUAL[1:3], ids=repr)
def test_low_precision_outputs_are_scored_in_float32(task):
    batch = few(task)
    outputs = jnp.asarray(noise(task, batch), jnp.bfloat16)
    low = evaluate(task, outputs, batch)
    wide = evaluate(task, outputs.astype(jnp.float32), batch)
    assert low["loss"].dtype == np.float32
    assert low["loss"] == wide["loss"]


@pytest.mark.parametrize("task", USUAL[:2], ids=repr)
def test_the_tolerance_decides_about_a_sequence(task):
    batch = few(task)
    margin = {AddingArjovsky2016: 0.08, AddingHochreiter1997: 0.04}[type(task)]
    assert evaluate(task, batch.targets + 0.99 * margin, batch)["correct"].all()
    assert not evaluate(task, batch.targets - 1.01 * margin, batch)["correct"].any()


def test_squared_errors_are_averaged_over_outputs():
    outputs, targets = np.random.default_rng(0).normal(size=(2, 5, 3, 2)).astype(np.float32)
    losses = USUAL[0].step_losses(jnp.asarray(outputs), jnp.asarray(targets))
    np.testing.assert_allclose(losses, ((outputs - targets) ** 2).sum(-1) / 2, rtol=1e-5)


def test_copying_is_judged_by_the_recalled_symbols_alone():
    task = USUAL[2]
    batch = few(task)
    right = perfect(task, batch)
    wrong = np.roll(right, 1, axis=-1)
    step = np.arange(task.total_length)[:, None, None]
    recalled = step >= task.length + task.memorise
    assert evaluate(task, np.where(recalled, right, wrong), batch)["correct"].all()
    assert not evaluate(task, np.where(recalled, wrong, right), batch)["correct"].any()
    one_wrong = np.where(step == task.length + task.memorise, wrong, right)
    assert not evaluate(task, one_wrong, batch)["correct"].any()


def test_success_at_its_thresholds():
    float32 = np.float32
    for task in (AddingArjovsky2016(), CopyMemory()):
        assert task.success({"loss": 0.099 * task.chance, "accuracy": 0.0})
        assert not task.success({"loss": 0.101 * task.chance, "accuracy": 1.0})
        assert not task.success({"loss": math.nan, "accuracy": 1.0})
    order, hochreiter = TemporalOrder(), AddingHochreiter1997()
    for scalar in (float, float32, jnp.float32):
        assert not order.success({"loss": 0.0, "accuracy": scalar(0.99)})
        assert order.success({"loss": 0.0, "accuracy": scalar(0.9901)})
        assert hochreiter.success({"loss": 0.0, "accuracy": scalar(0.999)})
        assert not hochreiter.success({"loss": 0.0, "accuracy": scalar(0.9989)})


# What stands beside the sampled tasks


def test_last_answer_is_the_last_scored_step():
    batch = few(USUAL[1])  # its sequences differ in length
    lengths, answer = last_answer(jax.tree.map(jnp.asarray, batch))
    last = batch.mask.argmax(0)
    assert len(set(last)) > 1
    np.testing.assert_array_equal(lengths, last + 1)
    for one, whole in zip(answer, batch, strict=True):
        np.testing.assert_array_equal(one, whole[last, np.arange(7)][None])


def test_pixel_digits_scores_the_last_pixel():
    task = PixelDigits()
    labels = np.arange(20) % 10
    targets = np.zeros((64, 20), np.int32)
    mask = np.zeros((64, 20), bool)
    targets[-1], mask[-1] = labels, True
    batch = Batch(jnp.zeros((64, 20, 1)), jnp.asarray(targets), jnp.asarray(mask))
    right = evaluate(task, 60 * np.eye(10, dtype=np.float32)[targets], batch)["metrics"]
    flat = evaluate(task, np.zeros((64, 20, 10), np.float32), batch)["metrics"]
    assert right == {"loss": 0, "accuracy": 1}
    assert flat["loss"] == pytest.approx(task.chance, rel=1e-6)
    assert task.success(right)
    assert not task.success(flat)
    with pytest.raises(ValueError, match="length must be 64"):
        PixelDigits(65)


# Arguments


def sample_shapes(batch_size):
    return jax.eval_shape(lambda: USUAL[0].sample(jax.random.key(0), batch_size))


@pytest.mark.parametrize(
    ("make", "minimum", "name"),
    [
        (AddingArjovsky2016, 2, "length"),
        (AddingHochreiter1997, 10, "length"),
        (CopyMemory, 1, "length"),
        (TemporalOrder, 10, "length"),
        (functools.partial(CopyMemory, 9), 2, "symbols"),
        (functools.partial(CopyMemory, 9, 2), 1, "memorise"),
        (sample_shapes, 1, "batch_size"),
    ],
)
def test_bad_sizes_are_refused_by_name(make, minimum, name):
    make(minimum)
    for value in (minimum - 1, -3, True):
        with pytest.raises(ValueError) as error:
            make(value)
        expected = f"{name} must be an integer of at least {minimum}, got {value!r}"
        assert str(error.value) == expected


def test_sizes_are_integers_of_any_kind_and_nothing_else():
    check_integer("length", np.int64(7), 7)
    for value in (7.0, None, "7", [7]):
        with pytest.raises(ValueError) as error:
            check_integer("length", value, 7)
        assert str(error.value) == f"length must be an integer of at least 7, got {value!r}"


@pytest.mark.parametrize("symbols", [1, 4, True])
def test_temporal_order_has_two_or_three_symbols(symbols):
    with pytest.raises(ValueError) as error:
        TemporalOrder(50, symbols)
    assert str(error.value) == f"symbols must be 2 or 3, got {symbols!r}"


@usual_task
def test_outputs_of_another_shape_are_refused(task):
    batch = few(task)
    outputs = jnp.asarray(noise(task, batch))
    for wrong in (outputs[-1:], outputs[:, :1], outputs.swapaxes(0, 1), outputs.repeat(2, -1)):
        for method in (task.loss, task.example_losses, task.correct, task.metrics):
            with pytest.raises(ValueError, match=r"outputs must be \[T, B, O\] = \(45, 7, "):
                method(wrong, batch)


@usual_task
def test_tasks_are_frozen_and_hashable(task):
    assert hash(task) == hash(dataclasses.replace(task))
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.length = 12
