"""Task variance against a loop, its fractions, and tables of networks made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax.experiment import many_tasks, readout
from rnnjax.tasks import trials
from rnnjax.training import TrainState

TASKS = ("go", "dlygo", "dm1")


def test_the_variance_is_over_trials_and_averaged_over_steps():
    rng = np.random.default_rng(0)
    rates, steps = rng.normal(size=(4, 6, 3)), np.array([[0, 1], [1, 1], [1, 0], [0, 1]], bool)
    found = many_tasks.task_variance(jnp.array(rates, jnp.float32), steps)
    for k in range(2):
        own = rates[:, 3 * k : 3 * k + 3]
        wanted = np.mean([np.var(own[t], axis=0) for t in range(4) if steps[t, k]], axis=0)
        np.testing.assert_allclose(found[k], wanted, rtol=1e-5)


def test_of_networks_it_is_that_of_their_rates_and_of_rotated_ones():
    tasks = trials.yang2019_set(TASKS[:2], dt=100)
    cell, key = rnnjax.Elman(3), jax.random.key(1)
    drawn = [cell.init(jax.random.key(i), tasks[0].input_size) for i in range(2)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    found = many_tasks.measure_variance(cell, params, tasks, key, 6)
    probe = trials.aligned_trials(tasks, key, 6)
    for i, own in enumerate(drawn):
        _, rates = rnnjax.unroll(cell, own, probe.inputs)
        wanted = many_tasks.task_variance(rates, probe.after_first)
        np.testing.assert_allclose(found.trained[i], wanted, rtol=1e-4, atol=1e-7)
        sums = found.trained[i].sum(-1), found.rotated[i].sum(-1)
        np.testing.assert_allclose(*sums, rtol=1e-4)  # a rotation keeps the sum over units
    assert not np.allclose(found.trained, found.rotated, rtol=0.05)


def test_only_active_units_have_fractions():
    variance = np.array([[1.0, 0.0, 3e-4, 2.0], [0.0, 2.0, 3e-4, 1.0], [1.0, 1.0, 3e-4, 0.0]])
    found = many_tasks.fractional_variance(variance, [(0, 1), (2, 0)])
    np.testing.assert_allclose(found, [1, -1, 1 / 3, 0, 1, -1])
    np.testing.assert_allclose(
        many_tasks.normalised_variance(variance), [[1, 0, 1], [0, 1, 0.5], [1, 0.5, 0]]
    )
    assert many_tasks.share(found > 0.9) == pytest.approx(2 / 6)
    assert many_tasks.share(found[:0] > 0.9) == 0


def test_correlations_are_over_units():
    rows = np.array([[1.0, 0.0, 0.5], [0.9, 0.2, 0.1], [1.0, 1.0, 1.0]])
    found = many_tasks.correlations(rows)
    assert found[0, 1] == pytest.approx(np.corrcoef(rows[0], rows[1])[0, 1])
    assert np.isnan(found[0, 2])
    assert np.isnan(many_tasks.correlations(rows[:, :1])).all()


def test_performance_is_the_share_of_right_trials_by_task():
    tasks = trials.yang2019_set(TASKS[:2], dt=100)
    cell = rnnjax.Elman(3)
    params = readout.init(cell, tasks[0], jax.random.key(0))
    batch = trials.sample_tasks(tasks, jax.random.key(1), 8)
    outputs = jax.nn.sigmoid(readout.apply(cell, params, batch.inputs))
    right = np.asarray(trials.direction_correct(outputs, batch)).reshape(2, 8)
    state = TrainState(jax.tree.map(lambda a: a[None], params), (), 0, 0)
    found = many_tasks.observe_performance(cell, batch, 2)(state)
    np.testing.assert_allclose(found, right.mean(1)[None])


def test_tables_of_a_network_made_by_hand():
    """The first unit serves dm1, the other two go and dlygo."""
    own = np.array([[[0.0, 2, 1], [0, 2, 0.5], [4, 0.2, 0]]])
    variance = many_tasks.TaskVariance(own, np.ones_like(own))
    performance = {0: np.zeros((1, 3)), 10: np.array([[1.0, 0.5, 0.75]])}
    found = many_tasks.tables("gru", TASKS, variance, performance, 0.9)
    assert [(r["task"], r["step"], r["median"]) for r in found["performance"]] == [
        *(("go", 0, 0), ("go", 10, 1)),
        *(("dlygo", 0, 0), ("dlygo", 10, 0.5)),
        *(("dm1", 0, 0), ("dm1", 10, 0.75)),
    ]
    assert [r["task"] for r in found["variance"]] == list(TASKS)
    assert found["variance"][0]["cluster"].tolist() == [1, 1, 2]
    np.testing.assert_allclose(
        [r["value"] for r in found["variance"]], [[1, 1, 0], [1, 0.5, 0], [0.1, 0, 1]]
    )
    rows = own[0] / own[0].max(0)
    wanted = np.corrcoef(rows)
    np.testing.assert_allclose([r["value"] for r in found["correlations"]], wanted)
    special = [r["value"] for r in found["special"]]  # of the second unit FTV is 9/11
    np.testing.assert_allclose(special, [[0, 0, 2 / 3], [0, 0, 2 / 3], [2 / 3, 2 / 3, 0]])
    alike, control, unlike, _ = found["fractional"]
    assert alike["panel"] == "GRU: go, dlygo (alike)" and unlike["panel"].endswith("(unlike)")
    assert [alike["rates"], control["rates"]] == ["trained", "rotated"]
    np.testing.assert_allclose(alike["ftv"], np.arange(-0.95, 1, 0.1))
    shares = dict(zip(np.round(alike["ftv"], 2).tolist(), alike["median"].tolist(), strict=True))
    assert shares[0.05] == shares[0.35] == 0.5  # 0 and 1/3; the unit of dm1 is silent in both
    assert unlike["median"][0] == pytest.approx(1 / 3)  # dlygo, dm1: the unit of dm1
    silent = many_tasks.tables(
        "gru", TASKS, many_tasks.TaskVariance(0 * own, own), performance, 0.9
    )
    assert not len(silent["variance"][0]["unit"])
