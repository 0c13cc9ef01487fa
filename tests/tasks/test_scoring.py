"""Losses, gradients and success against NumPy and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_batches import MANY, USUAL, draw, evaluate, every_task, few, fixed, noise, usual_task

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


def perfect(task, batch):
    """Outputs of a network that knows the answers."""
    if isinstance(task, Regression):
        return batch.targets
    return 60 * np.eye(task.output_size, dtype=np.float32)[batch.targets]


@pytest.mark.slow
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
        expected = weight * 2 * (outputs - batch.targets) / task.output_size
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
