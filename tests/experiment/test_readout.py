"""A cell with a linear head, against a Python loop; its score; widths with equal counts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax import GRU, LSTM, networks, tasks
from rnnjax.experiment import (
    CellOptions,
    TrainingOptions,
    readout,
    restart,
    sampled_sets,
    start,
)
from rnnjax.runs import Run

TASK = tasks.AddingArjovsky2016(7)


@pytest.mark.slow
def test_the_outputs_are_linear_in_the_cells_outputs():
    cell = GRU(5)
    params = readout.init(cell, TASK, jax.random.key(0))
    assert params.kernel.shape == (5, 1) and not params.bias.any()
    params = params._replace(bias=jnp.array([0.5]))
    inputs = TASK.sample(jax.random.key(1), 3).inputs
    carry, want = cell.initial_carry((3,)), []
    for x in inputs:
        carry = cell.step(params.cell, carry, cell.project(params.cell, x))
        want.append(np.asarray(carry.h) @ np.asarray(params.kernel) + 0.5)
    np.testing.assert_allclose(readout.apply(cell, params, inputs), want, rtol=1e-5, atol=1e-6)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    assert readout.count(cell, TASK) == sum(sizes)


@pytest.mark.slow
def test_a_score_is_over_seeds():
    cell = LSTM(3)
    keys = jax.random.split(jax.random.key(2), 3)
    params = jax.vmap(lambda key: readout.init(cell, TASK, key))(keys)
    (batch,) = sampled_sets(TASK, [0, 1, 2], 16)
    found = readout.score(cell, TASK, params, batch)
    for seed in range(3):
        own, data = (jax.tree.map(lambda a, s=seed: a[s], tree) for tree in (params, batch))
        metrics = TASK.metrics(readout.apply(cell, own, data.inputs), data)
        assert found["loss_of_seeds"][seed] == pytest.approx(float(metrics["loss"]), rel=1e-5)
    assert found["final_loss"] == np.median(found["loss_of_seeds"])
    assert found["chance"] == TASK.chance and found["success"] == 0


@pytest.mark.slow
def test_networks_that_read_the_same_sequences_have_the_score_of_each():
    cell, batch = GRU(3), TASK.sample(jax.random.key(5), 16)
    keys = jax.random.split(jax.random.key(2), 2)
    params = jax.vmap(lambda key: readout.init(cell, TASK, key))(keys)
    both = jax.tree.map(lambda a: jnp.stack([a, a]), batch)
    assert readout.score_alike(cell, TASK, params, batch) == readout.score(cell, TASK, params, both)


@pytest.mark.slow
def test_training_is_gradient_descent_on_new_samples(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config(TrainingOptions, CellOptions):
        cells: tuple[str, ...] = ("gru",)

    config = Config(features=3, steps=3, batch_size=4, seeds=2, seed=5)
    cell, optimizer = config.make_cell("gru"), optax.sgd(0.1)

    def loss(params, batch):
        return TASK.loss(readout.apply(cell, params, batch.inputs), batch)

    def train_step(state, batch):
        value, slopes = jax.value_and_grad(loss)(state.params, batch)
        params = jax.tree.map(lambda a, g: a - 0.1 * g, state.params, slopes)
        return state._replace(params=params, step=state.step + 1), {"loss": value}

    run = Run.create(tmp_path / "run", config)
    found = readout.train(config, run, "gru", TASK, train_step, optimizer)
    for place, seed in enumerate(config.members):
        init_key, key = jax.random.split(jax.random.key(seed))
        params = readout.init(cell, TASK, init_key)
        for _ in range(config.steps):
            key, step_key = jax.random.split(key)
            slopes = jax.grad(loss)(params, TASK.sample(step_key, 4))
            params = jax.tree.map(lambda a, g: a - 0.1 * g, params, slopes)
        for got, want in zip(*map(jax.tree.leaves, (found, params)), strict=True):
            np.testing.assert_allclose(got[place], want, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_sets_are_sampled_per_seed_and_apart_from_each_other():
    probe, held_out = sampled_sets(TASK, [4, 7], 5, 6)
    assert probe.inputs.shape == (2, 7, 5, 2)
    for place, seed in enumerate((4, 7)):
        first, second = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
        for found, key, size in ((probe, first, 5), (held_out, second, 6)):
            want = TASK.sample(key, size)
            np.testing.assert_array_equal(found.inputs[place], want.inputs)
            np.testing.assert_array_equal(found.targets[place], want.targets)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.CELLS)
def test_matched_cells_have_nearly_the_count_of_the_largest(name):
    target = readout.count(LSTM(16), TASK)
    cell = readout.matched_cell(name, 16, TASK, networks.CELLS)
    counts = {
        width: readout.count(networks.make_cell(name, width), TASK) for width in range(16, 49)
    }
    best = min(counts, key=lambda width: abs(counts[width] - target))
    assert cell == networks.make_cell(name, best)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.CELLS)
def test_networks_drawn_one_by_one_are_those_drawn_in_one_program(name):
    class Members:
        members = 3, 0, 2**31 + 5

    cell, optimizer = networks.make_cell(name, 5), optax.adam(0.1)
    found = readout.start(Members(), optimizer, cell, TASK)
    want = start(Members(), optimizer, functools.partial(readout.init, cell, TASK))
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype and a.sharding.is_equivalent_to(b.sharding, a.ndim)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_a_training_that_begins_again_sees_the_same_batches():
    class Members:
        members = 0, 1

    cell, optimizer = GRU(3), optax.adam(0.1)
    state = readout.start(Members(), optax.sgd(0.1), cell, TASK)
    state = state._replace(step=state.step + 7)
    again = restart(state, optimizer)
    assert again.params is state.params and again.step.tolist() == [0, 0]
    assert (again.key == state.key).all()
    part = restart(state, optimizer, state.params.cell)
    assert part.params is state.params.cell
    want = jax.vmap(optimizer.init)(state.params.cell)
    for a, b in zip(*map(jax.tree.leaves, (part.opt_state, want)), strict=True):
        np.testing.assert_array_equal(a, b)
