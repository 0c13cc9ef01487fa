"""Padded batches are the batches of each length, followed by steps that are not scored."""

import jax
import numpy as np
import pytest

from rnnjax import tasks


@pytest.mark.slow
def test_a_padded_batch_is_the_tasks_own():
    padded = tasks.Padded((tasks.TemporalOrder(12), tasks.TemporalOrder(10)))
    sample = jax.jit(padded.sample, static_argnums=2)
    for length in (10, 12):
        got, lengths = sample(jax.random.key(3), length, 2)
        want = tasks.TemporalOrder(length).sample(jax.random.key(3), 2)
        assert lengths.tolist() == [length, length]
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a[:length], b)
            assert len(a) == 12 and not np.any(a[length:])


@pytest.mark.slow
def test_what_all_lengths_share_is_that_of_one():
    padded = tasks.Padded((tasks.TemporalOrder(12), tasks.TemporalOrder(10)))
    one = tasks.TemporalOrder(10)
    assert (padded.input_size, padded.output_size) == (one.input_size, one.output_size)
    assert padded.chance == one.chance
    batch = one.sample(jax.random.key(0), 3)
    outputs = jax.random.normal(jax.random.key(1), (10, 3, one.output_size))
    assert padded.loss(outputs, batch) == one.loss(outputs, batch)
    assert padded.metrics(outputs, batch) == one.metrics(outputs, batch)
