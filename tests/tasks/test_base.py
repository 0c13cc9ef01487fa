"""What all tasks share: shapes, keys, types."""

import functools

import jax
import numpy as np
import pytest
from task_batches import MANY, USUAL, draw, every_task, few, usual_task

from rnnjax.tasks import (
    AddingHochreiter1997,
    Batch,
    Regression,
    TemporalOrder,
    ask,
    last_answer,
)
from rnnjax.tasks import __all__ as exported


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_question_is_batch_major_and_ends_where_it_is_answered():
    batch = AddingHochreiter1997(12).sample(jax.random.key(0), 5)
    question, (lengths, answer) = ask(batch), last_answer(batch)
    assert question.inputs.shape == (5, len(batch.inputs), 2)
    np.testing.assert_array_equal(question.inputs[3], batch.inputs[:, 3])
    np.testing.assert_array_equal(question.lengths, lengths)
    np.testing.assert_array_equal(question.answer.targets, answer.targets)
    for b, length in enumerate(lengths.tolist()):
        assert batch.mask[length - 1, b] and not batch.mask[length:, b].any()


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
