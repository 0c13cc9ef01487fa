"""A grid of settings: which values train, which members pass, and what is counted."""

from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from rnnjax import tasks, training
from rnnjax.cells import Elman
from rnnjax.experiment import grids, readout

MEMBERS = training.grid(rate=[0.1, 1.0], clip=[1.0, np.inf], seed=[3, 4])
LOSSES = [0.1, 0.3, 0.9, 0.7, 0.2, np.nan, np.nan, np.nan]  # two seeds of each setting
ROWS = grids.over_seeds({**MEMBERS, "loss_of_chance": np.array(LOSSES)}, "rate", "clip")


def test_values_that_train_are_nested_by_other_settings():
    assert grids.trains(ROWS, 0.5, "rate", "clip") == {"1.0": [0.1], "inf": []}
    assert grids.trains(ROWS, 0.85, "rate", "clip") == {"1.0": [0.1], "inf": [0.1]}
    assert grids.trains(ROWS, 0.5, "rate", "unknown") == {"None": [0.1]}
    nested = grids.trains(ROWS, 0.5, "rate", "clip", "unknown")
    assert nested == {"1.0": {"None": [0.1]}, "inf": {"None": []}}


def test_totals_name_the_best_setting():
    found = grids.totals(ROWS)
    assert found["stopped"] == 3 and found["members"] == 8
    assert found["best"]["rate"] == 0.1 and found["best"]["median"] == pytest.approx(0.2)
    again = grids.over_seeds({**MEMBERS, "loss_of_chance": np.array(LOSSES)}, *MEMBERS)
    for name, column in ROWS.items():
        np.testing.assert_array_equal(again[name], column)


def test_members_that_stopped_have_no_loss_and_do_not_pass():
    chunk = SimpleNamespace(counts=np.array([5, 3]), step=5)
    trained = training.TrainingResult(np.array([0.01, 0.02]), (), [chunk])  # pyright: ignore
    members = {"seed": np.array([3, 4])}

    def evaluate(state):
        return {"loss": state, "accuracy": 1 + 0 * state}

    table = grids.member_table(trained, members, evaluate, 0.5, cell="gru")
    assert list(table) == [
        *("cell", "member", "seed", "updates", "loss", "loss_of_chance", "accuracy")
    ]
    assert table["updates"].tolist() == [5, 3] and table["member"].tolist() == [0, 1]
    np.testing.assert_allclose(table["loss_of_chance"], [0.02, np.nan])
    np.testing.assert_array_equal(table["accuracy"], [1, np.nan])
    assert grids.solved(tasks.AddingArjovsky2016(), table) == [1, 0]
    assert grids.solved(tasks.TemporalOrder(), table) == [1, 0]


@pytest.mark.slow
def test_a_member_starts_from_its_own_seed_and_keeps_its_settings():
    cell, task, optimizer = Elman(5), tasks.AddingArjovsky2016(7), optax.adam(0.1)
    settings = {"seed": 6, "rate": 0.5}
    state = grids.start(cell, task, optimizer, settings)
    head_key, cell_key, own = jax.random.split(jax.random.key(6), 3)
    for got, want in zip(state.params.cell, cell.init(cell_key, 2), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(
        state.params.kernel, jax.random.normal(head_key, (5, 1)) / 5**0.5, rtol=1e-6
    )
    assert isinstance(state.params, readout.Readout) and not state.params.bias.any()
    assert state.settings == settings and (state.key == own).all()
    drawn = grids.start(cell, task, optimizer, settings, Elman(5, recurrent_kernel_init=zeros))
    assert not drawn.params.cell.recurrent_kernel.any()


def zeros(key, shape, dtype=np.float32):
    return np.zeros(shape, dtype)
