"""Members with their own settings, against loops with plain optax and constant settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax
from rnnjax import training
from rnnjax.cells.initializers import Chrono, Gaussian, Identity, Orthogonal, SpectralRadius

B, T, D, H, STEPS = 4, 3, 2, 5, 6
RATES, CLIPS = (0.1, 0.02), (0.01, 1e6)


def same(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def take(tree, member):
    return jax.tree.map(lambda a: a[member], tree)


def test_a_grid_is_nested_loops():
    got = training.grid(a=[3, 1, 2], b=(0.5, np.inf), seed=range(2))
    want = [(a, b, s) for a in (3, 1, 2) for b in (0.5, np.inf) for s in range(2)]
    assert [*zip(*got.values(), strict=True)] == want and list(got) == ["a", "b", "seed"]
    assert got["seed"].dtype.kind == "i" and got["b"].dtype == float


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({}, "a grid needs axes"),
        ({"clip": []}, r"clip must be a list of numbers, got \[\]"),
        ({"clip": [[1.0]]}, "clip must be a list of numbers"),
        ({"clip": ["high"]}, "clip must be a list of numbers, got .'high'."),
        ({"clip": 1.0}, "clip must be a list of numbers, got 1.0"),
        ({"a": [1], "clip": [1.0, np.nan]}, "clip must be distinct numbers, got"),
        ({"seed": [1, 2, 1]}, r"seed must be distinct numbers, got \[1, 2, 1\]"),
    ],
)
def test_a_wrong_grid_is_refused(axes, words):
    with pytest.raises(ValueError, match=words):
        training.grid(**axes)


def test_aggregate_seeds_is_a_loop_over_settings():
    members = training.grid(a=[2.0, 1.0], seed=range(3), b=[0, 1])
    value = np.array([5, 1, 3, 2, 4, np.nan, 7, 6, np.nan, 8, np.nan, 9], float)
    got = training.aggregate_seeds(members, value)
    for row, (a, b) in enumerate([(2, 0), (2, 1), (1, 0), (1, 1)]):
        own = value[(members["a"] == a) & (members["b"] == b)]
        reached = sorted(np.inf if np.isnan(v) else v for v in own)
        want = (a, b, reached[1], reached[0], reached[2], 3, sum(np.isnan(own)))
        assert tuple(column[row] for column in got.values()) == want
    assert [*got] == ["a", "b", "median", "low", "high", "members", "stopped"]


def test_the_median_of_an_even_number_of_seeds():
    members = training.grid(a=[1.0, 2.0], seed=range(2))
    got = training.aggregate_seeds(members, [1, 3, 1, np.nan])
    assert got["median"].tolist() == [2, np.inf] and got["stopped"].tolist() == [0, 1]


def test_aggregate_seeds_refuses_inconsistent_arguments():
    members = training.grid(a=[1.0, 2.0], seed=range(2))
    with pytest.raises(ValueError, match="'key' is not one of the settings a, seed"):
        training.aggregate_seeds(members, np.zeros(4), seed="key")
    with pytest.raises(ValueError, match="must have the same length"):
        training.aggregate_seeds(members, np.zeros(3))


CELL = rnnjax.LSTM(H)


def optimizer(settings):
    clip = optax.clip_by_global_norm(settings["clip"])
    return optax.chain(clip, optax.adam(settings["learning_rate"]))


def drawn(settings):
    return dataclasses.replace(
        CELL,
        forget_bias=settings["forget_bias"],
        recurrent_kernel_init=Orthogonal(settings["gain"]),
    )


def start(settings):
    init_key, data_key = jax.random.split(jax.random.key(settings["seed"]))
    params = drawn(settings).init(init_key, D)
    opt_state = optimizer(settings).init(params)
    return training.TrainState(params, opt_state, jnp.int32(0), data_key, settings)


def sample(key):
    return jax.random.normal(key, (T, B, D))


def loss_fn(params, xs):
    return ((rnnjax.unroll(CELL, params, xs)[1][-1] - 1) ** 2).mean()


def train_step(state, xs):
    loss, gradient = jax.value_and_grad(loss_fn)(state.params, xs)
    updates, opt_state = optimizer(state.settings).update(gradient, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
    return state, {"loss": loss}


def trained(start, train_step, members):
    state = training.over_population(start)(members)
    (chunk,) = training.train_on_samples(train_step, state, sample, steps=STEPS, chunk_size=STEPS)
    return state, chunk.state, chunk.metrics["loss"]


@pytest.fixture(scope="module")
def population():
    members = training.grid(
        learning_rate=RATES, clip=CLIPS, gain=[0.5], forget_bias=[-1.0, 2.0], seed=[3, 4, 5]
    )
    return members, *trained(start, train_step, members)


@pytest.mark.slow
@pytest.mark.parametrize("member", [0, 5, 23])
def test_a_member_is_a_plain_loop_with_its_settings(population, member):
    """Python numbers, plain optax, one update after another."""
    members, started, ended, losses = population
    own = {name: column[member].item() for name, column in members.items()}
    plain = optax.chain(optax.clip_by_global_norm(own["clip"]), optax.adam(own["learning_rate"]))
    cell = rnnjax.LSTM(
        H, forget_bias=own["forget_bias"], recurrent_kernel_init=Orthogonal(own["gain"])
    )
    init_key, key = jax.random.split(jax.random.key(own["seed"]))
    params = cell.init(init_key, D)
    same(take(started.params, member), params)  # to the last bit
    opt_state, step = plain.init(params), jax.jit(jax.value_and_grad(loss_fn))
    for t in range(STEPS):
        key, now = jax.random.split(key)
        loss, gradient = step(params, sample(now))
        np.testing.assert_allclose(losses[t, member], loss, rtol=1e-5)
        updates, opt_state = plain.update(gradient, opt_state)
        params = optax.apply_updates(params, updates)
    for got, want in zip(ended.params, params, strict=True):
        np.testing.assert_allclose(got[member], want, rtol=1e-4, atol=1e-6)
    assert ended.settings["clip"][member] == np.float32(own["clip"])


@pytest.mark.slow
def test_accelerators_vmap_members_with_their_settings(population, monkeypatch):
    members, _, ended, losses = population
    monkeypatch.setattr(training.population, "_platform", lambda sharding: "gpu")
    monkeypatch.setattr(training.population, "_one_by_one", None)
    _, at_once, its_losses = trained(start, train_step, members)
    np.testing.assert_allclose(its_losses, losses, rtol=1e-5)
    for got, want in zip(at_once.params, ended.params, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_setting_equals_a_constant_to_the_last_bit(population):
    """The seeds of one setting, trained with that setting as constants of the program."""
    members, _, ended, losses = population
    fixed = {"learning_rate": 0.1, "clip": 0.01, "gain": 0.5, "forget_bias": 2.0}
    rows = np.flatnonzero(np.all([members[name] == value for name, value in fixed.items()], axis=0))
    assert len(rows) == 3

    def start_fixed(settings):
        return start(fixed | settings)._replace(settings=settings)

    def step_fixed(state, xs):
        own = state.settings
        state, metrics = train_step(state._replace(settings=fixed), xs)
        return state._replace(settings=own), metrics

    _, alone, its_losses = trained(start_fixed, step_fixed, {"seed": members["seed"][rows]})
    np.testing.assert_array_equal(losses[:, rows], its_losses)
    same(take(ended.params, rows), alone.params)
    same(take(ended.opt_state, rows), alone.opt_state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (lambda v: rnnjax.GRU(H, forget_bias=v), True),
        (lambda v: rnnjax.LSTM(H, forget_bias=Chrono(v)), True),
        (lambda v: rnnjax.Elman(H, recurrent_kernel_init=Orthogonal(v)), True),
        (lambda v: rnnjax.Elman(H, recurrent_kernel_init=Identity(v)), True),
        (lambda v: rnnjax.Elman(H, recurrent_kernel_init=Gaussian(v)), False),
        (lambda v: rnnjax.Elman(H, recurrent_kernel_init=SpectralRadius(v)), False),
    ],
)
def test_traced_hyperparameters_draw_the_same_as_numbers(make, exact):
    key = jax.random.key(1)
    got = jax.jit(lambda v: make(v).init(key, D))(2.7)
    want = jax.jit(lambda: make(2.7).init(key, D))()
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0 if exact else 3e-7)


def test_a_network_does_not_run_as_a_cell_with_traced_numbers():
    with pytest.raises(TypeError, match="cell LSTM is not hashable"):
        jax.jit(lambda v: rnnjax.unroll(rnnjax.LSTM(H, forget_bias=v), (), jnp.ones((T, D))))(1.0)
