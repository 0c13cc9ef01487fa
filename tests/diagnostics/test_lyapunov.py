"""Lyapunov exponents: three independent routes, published numbers, closed forms, and refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from maps import Henon
from own_cells import LRU, RedundantRate

import rnnjax.cells
from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import identity
from rnnjax.cells.initializers import Orthogonal
from rnnjax.diagnostics import (
    jacobian_singular_values,
    jacobians,
    log_spectrum_statistics,
    lyapunov_spectrum,
    time_constant,
)

KEY = jax.random.key(0)
LONG = 10_000
CELLS = {"elman": Elman(5), "lstm": LSTM(5), "gru": GRU(5)}


def problem(cell, steps=60, dtype=jnp.float64):
    params = jax.tree.map(
        lambda p: p.astype(dtype) + 0.3 * jax.random.normal(KEY, p.shape, dtype), cell.init(KEY, 3)
    )
    return params, jax.random.normal(KEY, (steps, 2, 3), dtype)


@pytest.mark.slow
def test_the_henon_map_has_the_published_exponents(x64):
    """0.41922 +- 0.00006 (Sprott 2003); the sum is ln 0.3, the map's constant contraction."""
    found = lyapunov_spectrum(Henon(), {}, jnp.zeros((20_000, 1)), transient=100)
    assert found.exponents[0] == pytest.approx(0.41922, abs=0.006)
    assert abs(found.exponents[0] - 0.41922) < 4 * found.standard_error[0]
    assert found.exponents.sum() == pytest.approx(math.log(0.3), abs=1e-12)
    long_ago = lyapunov_spectrum(Henon(), {}, jnp.zeros((2000, 1)), transient=100)
    ratio = long_ago.standard_error[0] / found.standard_error[0]
    assert 1.5 < ratio < 7  # as the square root of ten


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_three_routes_agree(name, x64):
    """QR; the growth of a tiny displacement in a NumPy-driven loop; the mean of ln |det J|."""
    cell = CELLS[name]
    params, xs = problem(cell, steps=400)
    found = lyapunov_spectrum(cell, params, xs)
    steps = np.asarray(jacobians(cell, params, xs))
    volume = np.log(np.abs(np.linalg.det(steps))).mean(0)
    np.testing.assert_allclose(found.exponents.sum(-1), volume, rtol=1e-9)

    step = jax.jit(lambda s, x: cell.step(params, s, cell.project(params, x)))
    size, transient = 1e-7, 200
    carry, logs = cell.initial_carry(()), []
    carry = jax.tree.map(lambda c: c.astype(float), carry)
    direction = jax.tree.map(
        lambda c, i: jax.random.normal(jax.random.key(i), c.shape),
        carry,
        type(carry)(*range(len(carry))),
    )
    for t, x in enumerate(xs[:, 0]):
        moved = jax.tree.map(lambda c, d: c + size * d, carry, direction)
        after, carry = step(moved, x), step(carry, x)
        difference = [(a - b) / size for a, b in zip(after, carry, strict=True)]
        length = math.sqrt(sum(float((d**2).sum()) for d in difference))
        direction = type(carry)(*[d / length for d in difference])
        if t >= transient:
            logs.append(math.log(length))
    late = lyapunov_spectrum(cell, params, xs, 1, transient=transient)
    # Both have found the leading direction by then, up to what is left of the others.
    assert late.exponents[0, 0] == pytest.approx(np.mean(logs), abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-4), (jnp.float64, 1e-9)])
def test_a_scaled_orthogonal_network_has_one_exponent(dtype, tolerance, x64):
    cell = Elman(
        4, activation_fn=identity, recurrent_kernel_init=Orthogonal(0.9), param_dtype=dtype
    )
    found = lyapunov_spectrum(cell, cell.init(KEY, 1), jnp.zeros((LONG, 2, 1), dtype))
    assert found.exponents.dtype == dtype
    np.testing.assert_allclose(found.exponents, math.log(0.9), rtol=tolerance)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-6)
    assert time_constant(found.exponents[0, 0]) == pytest.approx(-1 / math.log(0.9), rel=1e-3)


@pytest.mark.slow
def test_a_quiet_tanh_network_has_the_eigenvalues_of_its_kernel(x64):
    """x = 0 is fixed and attracts, so J = U^T; complex pairs share an exponent."""
    cell = Elman(6, param_dtype=jnp.float64)
    params = cell.init(KEY, 1)
    U = 0.7 * np.random.default_rng(0).normal(size=(6, 6)) / math.sqrt(6)
    params = params._replace(recurrent_kernel=jnp.asarray(U), bias=0 * params.bias)
    found = lyapunov_spectrum(cell, params, jnp.zeros((6000, 1)), transient=1000)
    want = np.sort(np.log(np.abs(np.linalg.eigvals(U))))[::-1]
    np.testing.assert_allclose(found.exponents, want, atol=2e-3)


@pytest.mark.slow
def test_few_exponents_are_the_first_of_all_and_intervals_agree(x64):
    cell = Elman(20, param_dtype=jnp.float64)  # 20 vectors are taken in blocks, 16 at once
    params, xs = problem(cell, steps=300)
    every = lyapunov_spectrum(cell, params, xs, transient=100)
    some = lyapunov_spectrum(cell, params, xs, 16, transient=100)
    np.testing.assert_allclose(some.exponents[:, :3], every.exponents[:, :3], atol=0.02)
    coarse = lyapunov_spectrum(cell, params, xs[:298], 3, interval=4, transient=100)
    fine = lyapunov_spectrum(cell, params, xs[:298], 3, transient=100)
    np.testing.assert_allclose(coarse.exponents, fine.exponents, atol=1e-9)
    assert (coarse.condition > fine.condition).all()


@pytest.mark.slow
def test_float32_is_as_good_as_float64(x64):
    cell = GRU(5)
    params, xs = problem(cell, steps=2000)
    # The vectors start at random, differently for each type: let them find their directions.
    wide = lyapunov_spectrum(cell, params, xs, 2, transient=300)
    narrow = lyapunov_spectrum(
        cell, *jax.tree.map(lambda a: a.astype(jnp.float32), (params, xs)), 2, transient=300
    )
    assert narrow.exponents.dtype == jnp.float32
    np.testing.assert_allclose(narrow.exponents, wide.exponents, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_one_factorisation_leaves_no_standard_error():
    cell = CELLS["elman"]
    params, xs = problem(cell, 7, jnp.float32)
    found = lyapunov_spectrum(cell, params, xs, 1, interval=7)
    assert np.isnan(found.standard_error).all() and np.isfinite(found.exponents).all()


@pytest.mark.slow
def test_a_singular_jacobian_has_an_exponent_of_minus_infinity():
    cell = Elman(4, activation_fn=jax.nn.relu, recurrent_kernel_init=Orthogonal(0.2))
    params = cell.init(KEY, 1)
    params = params._replace(bias=jnp.array([9.0, 9.0, 9.0, -9.0]))  # one unit is dead
    with pytest.warns(RuntimeWarning, match="singular"):
        found = lyapunov_spectrum(cell, params, jnp.zeros((30, 1)))
    assert np.isfinite(found.exponents[:3]).all() and found.exponents[3] == -np.inf
    assert found.condition == np.inf


@pytest.mark.slow
def test_too_long_an_interval_is_warned_of_and_seen_under_jit():
    cell = LSTM(5)
    params, xs = problem(cell, 60, jnp.float32)
    with pytest.warns(RuntimeWarning, match="interval=30 the condition number of Q reaches"):
        lyapunov_spectrum(cell, params, xs, interval=30)
    quiet = jax.jit(lambda p, x: lyapunov_spectrum(cell, p, x, interval=30))(params, xs)
    assert (quiet.condition > 1e6).all()


@pytest.mark.slow
def test_it_is_vmapped_and_differentiated(x64):
    cell = CELLS["elman"]
    params, xs = problem(cell, 20)

    def total(gain):
        scaled = params._replace(recurrent_kernel=gain * params.recurrent_kernel)
        return lyapunov_spectrum(cell, scaled, xs, 2).exponents.sum()

    together = jax.vmap(total)(jnp.array([0.8, 1.1]))
    np.testing.assert_allclose(together, [total(0.8), total(1.1)], rtol=1e-9)
    slopes = [(total(1 + h) - total(1 - h)) / (2 * h) for h in (1e-4, 5e-5)]
    want = (4 * slopes[1] - slopes[0]) / 3
    _, forward = jax.jvp(total, (1.0,), (1.0,))
    np.testing.assert_allclose(forward, want, rtol=1e-6)
    curve = (total(1.001) - 2 * total(1.0) + total(0.999)) / 1e-6
    np.testing.assert_allclose(jax.hessian(total)(1.0), curve, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 6}, r"num must lie in 1..N = 1..5 .*, got 6"),
        ({"num": 0}, r"num must lie in 1..N"),
        ({"interval": 0}, "interval must be a positive integer, got 0"),
        ({"transient": 7}, "transient .* T = 7 .*, got 7"),
        ({"transient": -1}, "transient .* got -1"),
        ({"segments": 0}, "segments must be a positive integer, got 0"),
        ({"segments": 2}, "segments = 2 needs a transient above 0"),
        ({"segments": 7, "transient": 1}, "segments must be at most 6, .* got 7"),
    ],
)
def test_wrong_arguments(options, message):
    params, xs = problem(CELLS["gru"], 7, jnp.float32)
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(CELLS["gru"], params, xs, **options)


def test_a_state_that_is_not_finite_is_refused():
    params, xs = problem(CELLS["gru"], 7, jnp.float32)
    with pytest.raises(FloatingPointError, match="carry of example 1 is not finite after step 3"):
        lyapunov_spectrum(CELLS["gru"], params, xs.at[3, 1].set(jnp.nan))


def saturated(features=5):
    cell = Elman(features)
    params = cell.init(KEY, 3)
    params = params._replace(
        recurrent_kernel=2 * params.recurrent_kernel, input_kernel=3 * params.input_kernel
    )
    return cell, params, jax.random.normal(KEY, (200, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:with interval=1 the condition number")  # it is 1e7
@pytest.mark.parametrize("features", [5, 10])  # one block of vectors, and two
def test_the_volume_is_right_where_a_jacobian_is_nearly_singular_in_float32(features):
    cell, params, xs = saturated(features)
    volumes = np.linalg.slogdet(np.asarray(jacobians(cell, params, xs), float))[1]
    found = lyapunov_spectrum(cell, params, xs)
    assert found.condition > 1e6 and found.exponents.dtype == jnp.float32
    np.testing.assert_allclose(found.exponents.sum(), volumes.mean(), rtol=1e-5)
    values = jacobian_singular_values(cell, params, xs, [1, 50, 200]).log_values
    want = [volumes[-k:].sum() for k in (1, 50, 200)]
    np.testing.assert_allclose(values.sum(-1), want, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("num", [5, 17])
def test_slopes_of_exponents_are_finite_whatever_their_number(num):
    cell = Elman(20)
    params, xs = cell.init(KEY, 3), jax.random.normal(KEY, (10, 3))

    @jax.jit
    def slope(params):
        return jax.grad(lambda p: lyapunov_spectrum(cell, p, xs, num).exponents.sum())(params)

    found = jax.tree.leaves(slope(params))
    assert all(jnp.isfinite(leaf).all() for leaf in found) and any((f != 0).any() for f in found)


@pytest.mark.slow
def test_the_leading_exponent_has_a_slope_beside_others_of_minus_infinity():
    cell = Elman(4, activation_fn=jax.nn.relu)
    params = cell.init(KEY, 3)._replace(bias=jnp.array([5.0, 5.0, -50.0, -50.0]))
    xs = jax.random.normal(KEY, (20, 3))

    def leading(params, num):
        return lyapunov_spectrum(cell, params, xs, num).exponents[0]

    every, alone = (jax.jit(jax.grad(leading), static_argnums=1)(params, n) for n in (4, 1))
    for a, b in zip(every, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert (every.recurrent_kernel != 0).any()


def quiet_rates():
    cell = RedundantRate(3, leak=0.2)
    rates = np.array([0.9, 0.5, -0.3])
    return cell, {"u": jnp.diag(jnp.asarray(rates)), "w": jnp.ones((1, 3))}, rates


@pytest.mark.slow
def test_a_redundant_state_has_exponents_of_minus_infinity():
    """x = 0, r = tanh(x): ln |1 - a + a mu| for each eigenvalue mu of U, and as many -inf."""
    cell, params, rates = quiet_rates()
    xs = jnp.zeros((300, 1))
    with pytest.warns(RuntimeWarning, match="^3 of 6 exponents are -inf: .*x and tanh.*num=3") as w:
        found = lyapunov_spectrum(cell, params, xs, transient=100)
    assert len(w) == 1
    want = np.log(0.8 + 0.2 * rates)
    np.testing.assert_allclose(found.exponents[:3], want, atol=1e-4)
    assert (found.exponents[3:] == -np.inf).all() and found.condition == np.inf
    assert np.isfinite(found.standard_error[:3]).all()
    assert time_constant(found.exponents[0]) == pytest.approx(-1 / want[0], rel=1e-3)
    alone = lyapunov_spectrum(cell, params, xs, 3, transient=100)  # and no warning
    np.testing.assert_allclose(alone.exponents, want, atol=1e-4)
    assert alone.condition < 100


@pytest.mark.slow
def test_singular_values_of_a_redundant_state():
    """J = [[1 - a, a mu], [1 - a, a mu]] for each unit, so J^k = (1 - a + a mu)^(k-1) J."""
    cell, params, rates = quiet_rates()
    lags = [1, 4]
    found = jacobian_singular_values(cell, params, jnp.zeros((5, 1)), lags)
    one = np.log(2 * (0.8**2 + (0.2 * rates) ** 2)) / 2
    for k, logs in zip(lags, found.log_values, strict=True):
        want = one + (k - 1) * np.log(0.8 + 0.2 * rates)
        np.testing.assert_allclose(logs[:3], np.sort(want)[::-1], atol=1e-5)
        assert (logs[3:] == -np.inf).all()
    assert (found.log_condition == np.inf).all()
    nothing = np.full((1, 4), -np.inf)
    assert (log_spectrum_statistics(nothing)["condition"] == np.inf).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* exponents are -inf")
@pytest.mark.parametrize("interval", [1, 3])
def test_a_redundant_state_leaves_the_others_as_they_are(interval):
    """Driven by noise, in float32: the exponents are those of the network of x alone."""

    class Alone(RedundantRate):
        def initial_carry(self, batch_shape):
            return (jnp.zeros((*batch_shape, self.features)),)

        def step(self, ready, carry, u):
            x = (1 - self.leak) * carry[0] + self.leak * (jnp.tanh(carry[0]) @ ready["u"] + u)
            return (x,)

        def output(self, carry):
            return jnp.tanh(carry[0])

    params, xs = RedundantRate(10).init(KEY, 3), jax.random.normal(KEY, (1500, 3))
    options = {"transient": 300, "interval": interval}
    found = lyapunov_spectrum(RedundantRate(10), params, xs, **options)
    want = lyapunov_spectrum(Alone(10), params, xs, **options)
    np.testing.assert_allclose(found.exponents[:10], want.exponents, atol=2e-3)
    assert (found.exponents[10:] == -np.inf).all()


@pytest.mark.slow
@pytest.mark.parametrize("cell", [CELLS["elman"], CELLS["lstm"]], ids=["elman", "lstm"])
def test_segments_cover_the_steps_in_their_order(cell, x64):
    """The volume grows by |det J_t| in every step, whatever the vectors."""
    params, xs = problem(cell, steps=302)
    xs = xs * jnp.linspace(0.1, 2, len(xs))[:, None, None]  # blocks differ
    volumes = np.linalg.slogdet(np.asarray(jacobians(cell, params, xs)))[1][62:]
    found = lyapunov_spectrum(cell, params, xs, transient=62, segments=4)
    blocks = volumes.reshape(20, 12, 2).mean(1)
    np.testing.assert_allclose(found.block_means.sum(-1), blocks, rtol=1e-9)
    np.testing.assert_allclose(found.exponents.sum(-1), volumes.mean(0), rtol=1e-9)
    # What does not divide is left out at the beginning: here the first two steps.
    uneven = lyapunov_spectrum(cell, params, xs, transient=60, segments=4, interval=2)
    np.testing.assert_allclose(uneven.exponents.sum(-1), volumes.mean(0), rtol=1e-9)


def test_segments_side_by_side_are_the_run_in_one(x64):
    """Where the exponents lie so far apart that the vectors forget their start in the transient."""
    cell = CELLS["elman"]
    params, xs = problem(cell, steps=142)
    gains = jnp.array([2.0, 1.0, 0.3, 0.1, 0.03])
    params = params._replace(recurrent_kernel=gains * params.recurrent_kernel)
    whole = lyapunov_spectrum(cell, params, xs, 2, transient=62)
    apart = lyapunov_spectrum(cell, params, xs, 2, transient=62, segments=4)
    for name in ("exponents", "standard_error", "block_means"):
        np.testing.assert_allclose(getattr(apart, name), getattr(whole, name), rtol=1e-9)
    assert (apart.dimensions == 5).all() and (whole.dimensions == 5).all()


@pytest.mark.slow
def test_segments_of_a_complex_carry_and_of_a_linear_cell(x64):
    cell = LRU(3)
    params = jax.tree.map(lambda p: p.astype(float), cell.init(KEY, 3))
    xs = jax.random.normal(KEY, (300, 3))
    found = lyapunov_spectrum(cell, params, xs, transient=100, segments=5)
    want = np.repeat(-np.exp(np.asarray(params.log_decay)), 2)
    np.testing.assert_allclose(found.exponents, np.sort(want)[::-1], atol=2e-2)
    linear = rnnjax.cells.LRU(3)
    params = linear.init(KEY, 3)
    one = lyapunov_spectrum(linear, params, xs, transient=100)
    many = lyapunov_spectrum(linear, params, xs, transient=100, segments=5)
    np.testing.assert_array_equal(one.exponents, many.exponents)
