"""Horizons, time constants, bootstrap intervals and Fisher memory, against loops and formulas."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import own_cells
import pytest

from rnnjax import GRU, LSTM, Cell, Elman
from rnnjax.cells import GatedParams, identity
from rnnjax.diagnostics import by_lag, half_life, log_gradient_profile
from rnnjax.diagnostics.memory import (
    confidence_interval,
    fisher_memory_curve,
    leaky_log_profile,
    memory_horizon,
    random_carry_direction,
    time_constant,
)


def linear(W, v, dtype=jnp.float64):
    """Return an Elman network s' = W s + v x and its parameters; v `[N]` or `[N, D]`."""
    cell = Elman(len(W), activation_fn=identity, param_dtype=dtype)
    kernel = np.reshape(v, (len(W), -1)).T
    bias = np.arange(len(W)) / 10  # which must not matter
    return cell, GatedParams(*(jnp.asarray(a, dtype) for a in (kernel, np.transpose(W), bias)))


def orthogonal(size):
    return np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]


def test_the_horizon_is_the_first_lag_below_epsilon():
    rng = np.random.default_rng(0)
    profile = rng.normal(-1, 1, size=(7, 4, 5))
    profile[2, 0, 0], profile[:, 0, 1], profile[0, 0, 2] = -np.inf, 1, 5
    found = np.asarray(memory_horizon(jnp.asarray(profile), 0.1))
    assert found.shape == (4, 5)
    for place in np.ndindex(4, 5):
        below = (k for k in range(1, 8) if profile[(k - 1, *place)] < math.log(0.1))
        assert found[place] == next(below, math.inf)
    assert found[0, 1] == np.inf and np.isfinite(found).any()


def test_nan_makes_a_horizon_undefined_only_before_it_is_crossed():
    profile = jnp.array([[-1.0, -1.0], [jnp.nan, -9.0], [-9.0, jnp.nan]])
    np.testing.assert_array_equal(memory_horizon(profile, 0.01), [np.nan, 2])


@pytest.mark.slow
def test_the_horizon_of_a_scaled_rotation_is_a_ratio_of_logarithms(x64):
    cell, params = linear(0.9 * orthogonal(3), np.ones(3))
    profile = log_gradient_profile(
        cell, params, jnp.zeros((80, 2, 1)), cell.initial_carry((2,))._replace(h=jnp.eye(3)[:2])
    )
    lagged = by_lag(profile, jnp.array([80, 80]), 80)
    for epsilon in (0.5, 0.1, 1e-3, 1e-9):
        want = math.floor(math.log(epsilon) / math.log(0.9)) + 1
        np.testing.assert_array_equal(
            memory_horizon(lagged, epsilon), want if want <= 80 else np.inf
        )


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_a_horizon_needs_a_positive_epsilon(epsilon):
    with pytest.raises(ValueError, match=rf"epsilon must be positive and finite, got {epsilon}"):
        memory_horizon(jnp.zeros(3), epsilon)


def test_a_horizon_needs_a_lag():
    with pytest.raises(ValueError, match=r"log_profile must have .* K > 0; got \(0, 2\)"):
        memory_horizon(jnp.zeros((0, 2)), 0.1)


def test_the_time_constant_is_when_a_perturbation_has_shrunk_by_e():
    exponents = jnp.array([math.log(0.9), -2.0, 0.0, 0.5, -jnp.inf, jnp.nan])
    want = [-1 / math.log(0.9), 0.5, math.inf, math.inf, 0, math.nan]
    np.testing.assert_allclose(time_constant(exponents), want, rtol=1e-6)
    tau = float(time_constant(math.log(0.9)))
    assert 0.9**tau == pytest.approx(math.exp(-1))
    assert time_constant(0) == math.inf


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_holds_quantiles_of_all_resamples_there_are(level):
    samples = np.array([0.0, 1.0, 10.0])
    every = np.sort([np.mean(draw) for draw in itertools.product(samples, repeat=3)])
    found = confidence_interval(np.mean, samples, level=level, resamples=20_000)
    assert found.value == np.mean(samples)
    for bound, share in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
        at_most, below = np.mean(every <= bound + 1e-9), np.mean(every < bound - 1e-9)
        assert below - 0.01 <= share <= at_most + 0.01


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    samples = np.random.default_rng(0).normal(size=400)
    found = confidence_interval(np.mean, samples, resamples=4000)
    half_width = 1.96 * samples.std() / 20
    assert found.high - found.value == pytest.approx(half_width, rel=0.08)
    assert found.value - found.low == pytest.approx(half_width, rel=0.08)


def test_an_infinite_half_life_is_an_estimate_and_a_bound_like_any_other():
    lives = np.array([np.inf] * 5 + [3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    found = confidence_interval(lambda x: np.quantile(x, 0.5, method="lower"), lives)
    assert found == (8, 5, np.inf)
    assert confidence_interval(np.min, np.full(4, np.inf)) == (np.inf, np.inf, np.inf)


def test_the_half_life_of_a_median_profile_with_its_interval():
    rates = np.random.default_rng(0).uniform(0.05, 0.15, size=40)
    profile = -rates * np.arange(1, 21)[:, None]  # [K, n]
    found = confidence_interval(lambda p: half_life(jnp.median(p, -1)), profile, resamples=200)
    assert found.value == pytest.approx(math.log(2) / np.median(rates), rel=1e-5)
    bounds = confidence_interval(lambda r: math.log(2) / np.median(r), rates, resamples=200)
    np.testing.assert_allclose(found, bounds, rtol=1e-5)  # whole profiles were drawn
    assert found.low < found.value < found.high


def test_what_stands_along_the_other_axes_is_drawn_together():
    both = np.stack([np.arange(9.0), np.arange(9.0) + 3])
    difference = confidence_interval(lambda x: x[1].mean() - x[0].mean(), both)
    np.testing.assert_allclose(difference, 3)
    means = confidence_interval(lambda x: x.mean(-1), both)
    np.testing.assert_allclose(means.value, [4, 7])
    np.testing.assert_allclose(means.low + 3 * np.array([1, 0]), means.low[1])
    assert (means.low < means.value).all() and (means.value < means.high).all()


def test_a_statistic_that_is_not_a_number_leaves_no_bound():
    found = confidence_interval(lambda x: np.nan if 1 in x else x.mean(), np.array([0, 1, 0, 0]))
    assert all(math.isnan(bound) for bound in found)


@pytest.mark.parametrize(
    ("samples", "options", "says"),
    [
        (np.ones((5, 1)), {}, r"samples must hold at least two .* \(5, 1\)"),
        (np.float64(1), {}, r"samples must hold at least two"),
        (np.ones(3), {"level": 1.0}, "level must lie between 0 and 1, got 1"),
        (np.ones(3), {"level": 95.0}, "level must .* got 95"),
        (np.ones(3), {"resamples": 0}, "resamples must be a positive integer, got 0"),
    ],
)
def test_what_has_no_interval_is_refused(samples, options, says):
    with pytest.raises(ValueError, match=says):
        confidence_interval(np.mean, samples, **options)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-12), (jnp.float32, 2e-6)])
def test_a_scaled_rotation_forgets_geometrically(dtype, tolerance, x64):
    cell, params = linear(0.9 * orthogonal(5), np.full(5, 3.0), dtype)
    lags = [0, 3, 1, 40]
    want = 0.81 ** np.array(lags) * (1 - 0.81)
    np.testing.assert_allclose(fisher_memory_curve(cell, params, lags), want, rtol=100 * tolerance)


def test_any_normal_network_has_one_unit_of_memory(x64):
    rng = np.random.default_rng(1)
    Q = orthogonal(4)
    symmetric = Q @ np.diag([0.9, -0.7, 0.2, 0.0]) @ Q.T
    cell, params = linear(symmetric, rng.normal(size=4))
    assert fisher_memory_curve(cell, params, range(400)).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.5, 1.0, 10.0])
def test_a_delay_line_remembers_more_the_more_it_amplifies(gain, x64):
    """J(k) = g^2k / (1 + g^2 + .. + g^2k) for k < N; all of it, N, as g grows."""
    cell, params = linear(gain * np.eye(5, k=-1), np.eye(5)[0])
    powers = float(gain) ** (2 * np.arange(5))
    curve = fisher_memory_curve(cell, params, range(8))
    np.testing.assert_allclose(curve, [*powers / np.cumsum(powers), 0, 0, 0], rtol=1e-12)
    assert curve.sum() > 1
    if gain == 10:
        assert 4.9 < curve.sum() < 5


class PairCarry(NamedTuple):
    fast: Any  # [*batch, 2]
    slow: Any  # [*batch, 3]


@dataclasses.dataclass(frozen=True)
class Pair(Cell):
    """A linear cell with a carry of two parts."""

    def init(self, key: Any, input_size: int) -> Any:
        shapes = {"fast": (2, 2), "across": (2, 3), "slow": (3,), "input": (input_size, 2)}
        return {
            name: jax.random.uniform(jax.random.fold_in(key, i), shape, jnp.float64, -0.7, 0.7)
            for i, (name, shape) in enumerate(shapes.items())
        }

    def initial_carry(self, batch_shape: Sequence[int]) -> PairCarry:
        return PairCarry(
            jnp.zeros((*batch_shape, 2), jnp.float64), jnp.zeros((*batch_shape, 3), jnp.float64)
        )

    def project(self, params: Any, x: Any) -> Any:
        return x @ params["input"]

    def step(self, params: Any, carry: PairCarry, u: Any) -> PairCarry:
        fast = carry.fast @ params["fast"] + u
        return PairCarry(fast, params["slow"] * carry.slow + carry.fast @ params["across"])

    def output(self, carry: PairCarry) -> Any:
        return carry.slow


def test_a_cell_of_ones_own_against_the_sum_itself(x64):
    cell = Pair()
    params = cell.init(jax.random.key(3), 2)
    p = {name: np.asarray(value) for name, value in params.items()}
    W = np.block([[p["fast"].T, np.zeros((2, 3))], [p["across"].T, np.diag(p["slow"])]])
    direction = np.array([1.0, -2.0])
    v = np.concatenate([p["input"].T @ direction, np.zeros(3)])
    v = v / np.linalg.norm(v)
    powers = [np.linalg.matrix_power(W, k) for k in range(300)]
    inverse = np.linalg.inv(sum(P @ P.T for P in powers))
    want = [v @ P.T @ inverse @ P @ v for P in powers[:9]]
    curve = fisher_memory_curve(cell, params, range(9), direction)
    np.testing.assert_allclose(curve, want, rtol=1e-10)
    np.testing.assert_allclose(
        fisher_memory_curve(cell, params, range(9), 7 * direction), want, rtol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [Elman(3), Elman(3, activation_fn=jax.nn.relu), GRU(3)],
    ids=["tanh", "relu", "gru"],
)
def test_fisher_memory_is_of_linear_cells(cell):
    with pytest.raises(ValueError, match=f"cell must be linear; .* {type(cell).__name__}'s step"):
        fisher_memory_curve(cell, cell.init(jax.random.key(0), 1), [0])


@pytest.mark.parametrize(
    ("gain", "lags", "direction", "says"),
    [
        (1.0, [1], None, "spectral radius below 1, got 1"),
        (1.5, [1], None, r"spectral radius below 1, got 1\.5"),
        (math.nan, [1], None, "cell must be linear"),
        (0.5, [1, -1], None, r"lags must .* from 0 on, got \[ 1 -1\]"),
        (0.5, [0.5], None, r"lags must .* integers .* got \[0\.5\]"),
        (0.5, 3, None, "lags must be a sequence"),
        (0.5, [1], [0.0], r"direction \[0\.0\] does not reach"),
        (0.5, [1], [1.0, 2.0], "1 features"),
    ],
)
def test_what_has_no_fisher_memory_is_refused(gain, lags, direction, says):
    cell, params = linear(gain * np.eye(2), np.ones(2), jnp.float32)
    with pytest.raises(ValueError, match=says):
        fisher_memory_curve(cell, params, lags, direction)


def test_leaky_units_forget_geometrically():
    np.testing.assert_allclose(leaky_log_profile(0.8, 5), np.arange(1, 6) * math.log(0.8))
    keeps = np.array([0.5, 0.9, 0.99])
    want = [math.log(np.mean(keeps ** (2.0 * k))) / 2 for k in range(1, 8)]
    np.testing.assert_allclose(leaky_log_profile(keeps, 7), want)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTM", "LRU", "counting"])
def test_directions_have_unit_length_in_the_whole_carry(name):
    cell = {"LSTM": LSTM(7), **own_cells.CELLS}[name]
    v = random_carry_direction(jax.random.key(0), cell, (5,))
    like = cell.initial_carry((5,))
    assert jax.tree.map(jnp.shape, v) == jax.tree.map(jnp.shape, like)
    parts = [a for a in jax.tree.leaves(v) if jnp.issubdtype(a.dtype, jnp.inexact)]
    squares = sum(np.sum(np.abs(np.asarray(a)) ** 2, -1) for a in parts)
    np.testing.assert_allclose(squares, np.ones(5), rtol=1e-5)
    if name == "LRU":
        assert np.abs(np.asarray(v.state).imag).max() > 0.1
    xs = jnp.ones((3, 5, own_cells.D))
    params = cell.init(jax.random.key(1), own_cells.D)
    assert np.isfinite(log_gradient_profile(cell, params, xs, v)).all()
