"""Reconstructing one vector: its definition, its chance, and the least loss of a few units."""

import functools

import jax
import numpy as np
import pytest

from rnnjax.tasks import VectorMemoryCollins2017

MANY = 8192
TASKS = [VectorMemoryCollins2017(5, 3), VectorMemoryCollins2017(2, 7)]
every_task = pytest.mark.parametrize("task", TASKS, ids=repr)


@functools.cache
def draw(task, seed=2017):
    sample = jax.jit(task.sample, static_argnums=1)
    return jax.tree.map(np.asarray, sample(jax.random.key(seed), MANY))


@functools.cache
def metrics(task):
    return jax.jit(lambda outputs, batch: task.metrics(outputs, batch))


@every_task
def test_a_vector_is_shown_once_and_asked_at_the_end(task):
    inputs, targets, mask = draw(task)
    shape = task.length, MANY, task.size
    assert inputs.shape == targets.shape == shape and mask.shape == shape[:2]
    assert inputs.dtype == targets.dtype == np.float32
    assert (task.input_size, task.output_size, task.total_length) == (task.size,) * 2 + shape[:1]
    for b in range(50):  # sequence after sequence, step after step
        for t in range(task.length):
            assert mask[t, b] == (t == task.length - 1)
            assert inputs[t, b].any() == (t == 0)
            expected = inputs[0, b] if t == task.length - 1 else 0
            assert (targets[t, b] == expected).all()


@every_task
def test_the_vector_is_standard_normal(task):
    x = draw(task)[0][0].astype(float)
    error = 4.5 / np.sqrt(MANY)
    assert np.abs(x.mean(0)).max() < error
    assert np.abs(np.cov(x.T) - np.eye(task.size)).max() < 1.5 * error
    assert abs((np.abs(x) < 1).mean() - 0.6827) < error
    assert (draw(task, 1)[0] != draw(task)[0]).any()


@every_task
def test_the_loss_is_the_mean_squared_error_and_chance_is_one(task):
    batch = draw(task)
    answers = np.random.default_rng(0).normal(size=batch.targets.shape).astype(np.float32)
    errors = [
        np.mean([(answers[-1, b, i] - batch.inputs[0, b, i]) ** 2 for i in range(task.size)])
        for b in range(MANY)
    ]
    assert metrics(task)(answers, batch)["loss"] == pytest.approx(np.mean(errors), rel=1e-5)
    mean = np.broadcast_to(batch.inputs[0].mean(0), answers.shape)  # the best without memory
    assert metrics(task)(mean, batch)["loss"] == pytest.approx(task.chance, abs=0.05)
    assert task.chance == 1


@every_task
def test_only_the_right_vector_succeeds(task):
    batch = draw(task)
    right = metrics(task)(batch.targets, batch)
    assert right["loss"] == 0 and right["accuracy"] == 1 and task.success(right)
    shuffled = metrics(task)(batch.targets[:, ::-1], batch)
    assert shuffled["loss"] == pytest.approx(2, abs=0.1) and not task.success(shuffled)
    without = batch.targets.copy()
    without[..., 0] = 0  # one dimension is missing
    missing = metrics(task)(without, batch)
    assert missing["loss"] == pytest.approx(1 / task.size, abs=0.05)
    assert missing["loss"] == pytest.approx(task.least_loss(task.size - 1), abs=0.05)
    assert not task.success(missing)
    off = batch.targets + np.where(np.arange(MANY) == 3, 0.31, 0.29)[:, None].astype(np.float32)
    assert metrics(task)(off, batch)["accuracy"] == pytest.approx(1 - 1 / MANY)


def test_no_affine_readout_of_few_units_beats_the_least_loss():
    """Least squares on the states of a random network, and on the best subspace."""
    task, rng = TASKS[1], np.random.default_rng(1)
    x = draw(task)[0][0].astype(float)
    for units in range(1, task.size + 3):
        states = np.tanh(x @ rng.normal(size=(task.size, units)))
        for h, bound in ((states, 1.0), (x[:, :units], 0.95)):
            h = np.column_stack([h, np.ones(MANY)])
            left = x - h @ np.linalg.lstsq(h, x, rcond=None)[0]
            loss, least = np.square(left).mean(), task.least_loss(units)
            assert loss > least - 0.02
            assert bound == 1 or loss < least + 0.02
    assert [task.least_loss(units) for units in (0, 7, 8)] == [1, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 3), "length must be an integer of at least 2, got 1"),
        ((5, 0), "size must be an integer of at least 1, got 0"),
        ((5, True), "size must be an integer of at least 1, got True"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        VectorMemoryCollins2017(*arguments)
    assert str(error.value) == message
