"""`training.fit` against the loop that it documents."""

import dataclasses
import doctest
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax
from rnnjax.runs import Run
from rnnjax.training import NonFiniteError, TrainState, fit

STEPS = 7


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = STEPS


CELL, OPTIMIZER = rnnjax.LSTM(5), optax.adam(0.05)


def sample(key):
    xs = jax.random.normal(key, (7, 16, 3))
    return xs, xs.sum((0, 2))


def train_step(state, batch):
    def loss_fn(params):
        xs, targets = batch
        _, hs = rnnjax.unroll(CELL, params, xs)
        return jnp.mean((hs[-1].sum(-1) - targets) ** 2)

    loss, gradient = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = OPTIMIZER.update(gradient, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
    return state, {"loss": loss, "norm": optax.tree.norm(gradient)}


def initial_state():
    params = CELL.init(jax.random.key(0), 3)
    return TrainState(params, OPTIMIZER.init(params), jnp.int32(0), jax.random.key(1))


def batches(count=STEPS):
    keys = jax.random.split(jax.random.key(2), count)
    return [jax.tree.map(np.asarray, sample(key)) for key in keys]


def python_loop(batches=None):
    """The documented loop, in Python."""
    step, state, rows = jax.jit(train_step), initial_state(), []
    for t in range(STEPS):
        if batches is None:
            key, step_key = jax.random.split(state.key)
            state, metrics = step(state._replace(key=key), sample(step_key))
        else:
            state, metrics = step(state, batches[t])
        rows.append(metrics)
    return state, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def assert_equal(got, want):
    (state, metrics), (want_state, want_metrics) = got, want
    assert metrics.keys() == want_metrics.keys()
    for name, value in want_metrics.items():
        assert metrics[name].shape == (STEPS,)
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)
    assert int(state.step) == STEPS and state.key.shape == ()
    key, want_key = map(jax.random.key_data, (state.key, want_state.key))
    np.testing.assert_array_equal(key, want_key)
    leaves = zip(*map(jax.tree.leaves, (state.params, want_state.params)), strict=True)
    for a, b in leaves:
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [100, pytest.param(3, marks=pytest.mark.slow)])
def test_on_samples_it_is_the_documented_loop(chunk_size):
    got = fit(train_step, initial_state(), sample, STEPS, chunk_size=chunk_size)
    assert_equal(got, python_loop())


@pytest.mark.slow
def test_on_batches_it_is_the_documented_loop():
    rows = batches()
    rest = iter([*rows, *rows])
    assert_equal(fit(train_step, initial_state(), rest, STEPS), python_loop(rows))
    assert len(list(rest)) == STEPS  # it took no more than it used


def test_integers_are_exact():
    def step(state, word):
        word = state.params * np.uint32(1664525) + word
        return state._replace(params=word, step=state.step + 1), {"word": word}

    def words(key):
        first, second = jax.random.key_data(key)
        return first ^ second

    state = TrainState(jnp.uint32(3), (), jnp.int32(0), jax.random.key(4))
    got = fit(step, state, words, 9, chunk_size=4)
    want = []
    for _ in range(9):
        key, step_key = jax.random.split(state.key)
        state, metrics = step(state._replace(key=key), words(step_key))
        want.append(int(metrics["word"]))
    assert got.metrics["word"].tolist() == want and int(got.state.params) == want[-1]


class StoppedError(Exception):
    """Raised by a test in the middle of a training."""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["samples", "batches"])
def test_in_a_run_it_resumes(tmp_path, source):
    def whole():
        return sample if source == "samples" else iter(batches())

    def breaking():
        rows = batches()
        yield from rows[:5]
        raise StoppedError

    want = fit(train_step, initial_state(), whole(), STEPS)
    options: Any = {"chunk_size": 2, "checkpoint_every": 2}
    run = Run.resume_or_create(tmp_path / "run", Config(), ignoring=())
    if source == "batches":
        with pytest.raises(StoppedError):
            fit(train_step, initial_state(), breaking(), STEPS, run=run, **options)
        assert {p.name for p in tmp_path.glob("run/training/all/steps/*")} >= {"4"}
    run = Run.resume_or_create(tmp_path / "run", Config(), ignoring=())
    got = fit(train_step, initial_state(), whole(), STEPS, run=run, **options)
    assert_equal(got, want)
    rows = run.read_rows("metrics.jsonl")
    assert [row["step"] for row in rows] == [*range(1, STEPS + 1)]
    np.testing.assert_array_equal(
        np.array([row["loss"] for row in rows], np.float32), got.metrics["loss"]
    )


def test_a_metric_that_is_not_finite_is_named_with_its_step(tmp_path):
    def step(state, x):
        loss = jnp.where(state.step == 4, jnp.nan, 1.0)
        return state._replace(step=state.step + 1), {"loss": loss}

    state = TrainState((), (), jnp.int32(0), jax.random.key(0))
    for run in (None, Run.create(tmp_path / "run", Config())):
        with pytest.raises(NonFiniteError) as error:
            fit(step, state, lambda key: 0.0, 9, label="elman", run=run)
        assert str(error.value) == "elman: loss became nan at step 5"


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": -1}, {"steps": 3, "chunk_size": 0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        fit(train_step, initial_state(), sample, **wrong)


def test_batches_that_end_early_are_an_error():
    with pytest.raises(ValueError, match="ended before the last step"):
        fit(train_step, initial_state(), itertools.islice(batches(), 3), STEPS)


def test_the_example_runs():
    found = doctest.DocTestFinder().find(fit, "fit", globs={})
    results = [doctest.DocTestRunner().run(each) for each in found]
    assert [(r.failed, r.attempted > 10) for r in results] == [(0, True)]


def test_complex_and_integer_states_train_and_resume(tmp_path):
    def step(state, noise):
        z, count = state.params
        z = z * jnp.exp(0.3j) + noise
        return state._replace(params=(z, count + 1), step=state.step + 1), {
            "size": jnp.abs(z).sum()
        }

    def noise():
        rows = np.random.default_rng(0).normal(size=(6, 3)) + 1j
        return iter(rows.astype(np.complex64))

    params = jnp.array([1, 1j, -1], jnp.complex64), jnp.uint8(250)
    state = TrainState(params, (), jnp.int32(0), jax.random.key(0))
    z, want = np.asarray(params[0]), []
    for row in noise():
        z = z * np.exp(np.complex64(0.3j)) + row
        want.append(np.abs(z).sum())
    for steps in (3, 6):  # the second run resumes the first
        run = Run.resume_or_create(tmp_path / "run", Config(), ignoring=())
        got = fit(step, state, noise(), steps, run=run, checkpoint_every=1, chunk_size=3)
        np.testing.assert_allclose(got.metrics["size"], want[:steps], rtol=1e-5)
    assert got.state.params[0].dtype == jnp.complex64
    np.testing.assert_allclose(got.state.params[0], z, rtol=1e-5)
    assert int(got.state.params[1]) == 0 and got.state.params[1].dtype == jnp.uint8
