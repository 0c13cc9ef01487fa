"""All seeds in one program: states, batches, the loss table, evaluation."""

import dataclasses
import itertools
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnjax import diagnostics, experiment
from rnnjax.command_line import ArgumentError
from rnnjax.runs import Run
from rnnjax.tasks import AddingArjovsky2016


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.ApplicationOptions):
    """Of a run in these tests."""

    steps: int = 7
    batch_size: int = 4
    record_every: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshots(Config):
    """Of a run that measures its networks while they learn."""

    fewest_steps: ClassVar[int] = 0
    snapshots: int = 3


COLUMNS = {"x": np.arange(10.0, dtype=np.float32), "y": np.arange(10.0, dtype=np.float32) * 3}


def init(key):
    return jax.random.normal(key, ())


def train_step(state, batch):
    """Gradient descent on (w x - y)^2, by hand."""
    loss, gradient = jax.value_and_grad(lambda w: jnp.square(w * batch["x"] - batch["y"]).mean())(
        state.params
    )
    params = state.params - 1e-3 * gradient
    return state._replace(params=params, step=state.step + 1), {"loss": loss}


def test_each_seed_starts_from_its_own_key():
    config = Config(seeds=2, seed=5)
    state = experiment.start(config, optax.sgd(1.0), init)
    for row, seed in enumerate((5, 6)):
        first, second = jax.random.split(jax.random.key(seed))
        assert state.params[row] == init(first)
        assert (jax.random.key_data(state.key[row]) == jax.random.key_data(second)).all()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["sample", "batches"])
def test_networks_are_measured_before_and_while_they_learn(source, tmp_path):
    config = Snapshots(seeds=2, out=tmp_path / "run")
    run, state = Run.create(config.out, config), experiment.start(config, optax.sgd(1.0), init)
    xs = jnp.arange(4.0)
    given = {"sample": {"sample": lambda key: {"x": xs, "y": 3 * xs}},
             "batches": {"batches": lambda: [itertools.repeat({"x": xs, "y": 3 * xs})] * 2},
             }[source]  # fmt: skip

    def measure(params, probe):
        return {"far": probe - params}

    trained = experiment.train_and_probe(
        config, run, train_step, state, measure, jnp.array([3.0, 4.0]), cell="w", **given
    )
    assert list(trained.observed()) == [0, 3, 6, 7]
    w = np.asarray(state.params, float)
    for step in range(8):
        if step in trained.observed():
            np.testing.assert_allclose(
                trained.observed()[step]["far"], [3 - w[0], 4 - w[1]], rtol=1e-5
            )
        w = w - 1e-3 * 2 * np.mean(np.arange(4.0) ** 2) * (w - 3)
    rows = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2, 2, 4, 4, 6, 6]


def test_the_number_of_updates_can_be_given(tmp_path):
    config = Snapshots(seeds=2)
    run, state = (
        Run.create(tmp_path / "run", config),
        experiment.start(config, optax.sgd(1.0), init),
    )
    given = {"sample": lambda key: {"x": jnp.ones(3), "y": 3 * jnp.ones(3)}, "steps": 5}
    trained = experiment.train_and_probe(
        config, run, train_step, state, lambda params, probe: params, jnp.ones(2), **given
    )
    history, w = trained.observed(), np.asarray(state.params)
    assert max(history) == 5 and len(history) == config.snapshots + 1
    for update, params in history.items():  # of w -> w - 1e-3 * 2 (w - 3)
        np.testing.assert_allclose(params, 3 + (w - 3) * (1 - 2e-3) ** update, rtol=1e-5)


def test_without_steps_networks_are_measured_only(tmp_path):
    config = dataclasses.replace(Snapshots(seeds=2), steps=0, out=tmp_path / "run")
    run, state = Run.create(config.out, config), experiment.start(config, optax.sgd(1.0), init)
    trained = experiment.train_and_probe(
        config, run, train_step, state, lambda params, probe: params + probe, 1.0
    )
    np.testing.assert_array_equal(trained.observed()[0], np.asarray(state.params) + 1)
    assert trained.state is state and list(trained.observed()) == [0]


def test_batches_are_those_of_each_seed_and_no_larger_than_the_data():
    ours = experiment.shuffled_batches(Config(seeds=2), COLUMNS)
    first = [next(iter(batches)) for batches in ours]
    assert len(ours) == 2 and not np.array_equal(first[0]["x"], first[1]["x"])
    assert first[0]["x"].shape == (4,)
    experiment.shuffled_batches(Config(batch_size=10), COLUMNS)
    with pytest.raises(ArgumentError, match="--batch-size must be at most 10, got 11"):
        experiment.shuffled_batches(Config(batch_size=11), COLUMNS)


def test_fit_writes_the_recorded_losses_as_a_table(tmp_path):
    config = Config(seeds=3)
    run = Run.create(tmp_path / "run", config)
    state = experiment.start(config, optax.sgd(1.0), init)
    batches = experiment.shuffled_batches(config, COLUMNS)
    after = experiment.fit(config, run, train_step, state, batches)
    assert after.step.tolist() == [7, 7, 7]
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 2, 2, 4, 4, 4, 6, 6, 6]
    table = run.read_table("training")
    assert table["step"].tolist() == [2, 4, 6] and set(table["series"]) == {"training loss"}
    for place, step in enumerate((2, 4, 6)):
        expected = diagnostics.quartiles([row["loss"] for row in rows if row["step"] == step])
        assert {name: table[name][place] for name in expected} == expected


def test_a_run_shorter_than_the_first_record_has_an_empty_table(tmp_path):
    config = Config(steps=1, seeds=1)
    run = Run.create(tmp_path / "run", config)
    state = experiment.start(config, optax.sgd(1.0), init)
    experiment.fit(config, run, train_step, state, experiment.shuffled_batches(config, COLUMNS))
    assert len(run.read_table("training")["step"]) == 0


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_every_row_is_evaluated_once_for_every_member(batch_size):
    columns = {"x": np.arange(7.0, dtype=np.float32), "y": np.ones((7, 2), np.float32)}

    def function(weight, x, y):
        return {"product": weight * x, "sum": weight + y}

    weights = jnp.array([1.0, 10.0, 100.0])
    found = experiment.evaluate(function, weights, columns, batch_size=batch_size)
    np.testing.assert_array_equal(found["product"], weights[:, None] * columns["x"])
    np.testing.assert_array_equal(found["sum"], weights[:, None, None] + columns["y"])


def test_one_member_and_its_size():
    params = {"w": jnp.arange(12.0).reshape(2, 3, 2), "b": jnp.arange(2.0)}
    assert experiment.parameter_count(params) == 7
    one = experiment.member(params, 1)
    assert one["b"] == 1 and one["w"].tolist() == [[6, 7], [8, 9], [10, 11]]


@pytest.mark.slow
def test_inputs_end_to_end_are_the_sequences_one_after_the_other():
    task, keys = AddingArjovsky2016(length=5), jnp.stack([jax.random.key(s) for s in (3, 4)])
    found = experiment.end_to_end_inputs(task, keys, examples=2, sequences=3)
    assert found.shape == (2, 15, 2, 2)
    for seed, key in enumerate(keys):
        inputs = task.sample(jax.random.fold_in(key, 1), 6).inputs  # [5, 6, 2]
        for n in range(3):
            part = found[seed, 5 * n : 5 * n + 5]
            np.testing.assert_array_equal(part, inputs[:, 2 * n : 2 * n + 2])


def test_what_does_not_fit_into_memory_is_refused_before_it_is_made(monkeypatch):
    task = AddingArjovsky2016(length=10**8)
    with pytest.raises(ArgumentError, match=r"the held-out sequences would take \d+ GB, and there"):
        experiment.sampled_sets(task, [0, 1], 100)

    def large(key):
        return {"w": jnp.zeros((10**6, 10**6)) + jax.random.normal(key)}

    with pytest.raises(
        ArgumentError, match=r"networks and their optimisers would take 9.6e\+04 GB"
    ):
        experiment.start(Config(seeds=8), optax.adam(1.0), large)
