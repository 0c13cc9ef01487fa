"""Wrong sizes and shapes are refused by name."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_batches import USUAL, few, noise, usual_task

from rnnjax.tasks import (
    AddingArjovsky2016,
    AddingHochreiter1997,
    CopyMemory,
    TemporalOrder,
)
from rnnjax.tasks.base import check_integer


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
