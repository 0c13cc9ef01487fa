"""Adjoints and gradient profiles against closed forms, Jacobian products and finite differences."""

import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from counting import Counting, CountingCarry
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import GRUCarry, LSTMCarry, identity
from rnnjax.cells.elman import ElmanCarry
from rnnjax.cells.initializers import Identity, Orthogonal
from rnnjax.diagnostics import (
    adjoints,
    by_lag,
    decay_rate,
    half_life,
    log_gradient_profile,
    log_gradient_profile_by_part,
    quartiles,
)

KEY = jax.random.key(0)
T, B, D, H = 7, 2, 3, 5
LONG = 10_000
CELLS = {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H)}
PRECISIONS = [(jnp.float32, 1e-4), pytest.param(jnp.float64, 1e-9, marks=pytest.mark.slow)]


def zero_params(cell, dtype, **changes):
    params = jax.tree.map(lambda p: jnp.zeros(p.shape, dtype), cell.init(KEY, 1))
    return params._replace(**changes)


def linear(gain, dtype):
    cell = Elman(
        8,
        activation_fn=identity,
        recurrent_kernel_init=Orthogonal(gain),
        param_dtype=dtype,
    )
    return cell, cell.init(KEY, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(
    "gain", slow_but_for("0.9", {"0.9": 0.9, "1": 1.0, "1.01": 1.01, "0.01": 0.01})
)
def test_a_scaled_orthogonal_linear_network_decays_by_exactly_ln_gain(gain, dtype, tolerance, x64):
    cell, params = linear(gain, dtype)
    cotangent = ElmanCarry(jax.random.normal(KEY, (B, 8), dtype))
    xs = jnp.zeros((LONG, B, 1), dtype)  # a growing state would overflow; J does not depend on it
    profile = log_gradient_profile(cell, params, xs, cotangent)
    lag = np.arange(LONG, 0, -1)[:, None]
    want = lag * math.log(gain) + np.log(np.linalg.norm(cotangent.h, axis=-1))
    assert profile.dtype == dtype
    slack = 2e-7 * LONG if dtype == jnp.float32 else 0  # the rounding of Q itself
    assert np.abs(profile - want).max() < tolerance * np.abs(want).max() + slack
    rate = decay_rate(profile[::-1])
    np.testing.assert_allclose(rate, -math.log(gain), atol=tolerance * abs(math.log(gain)) + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_lstm_with_zero_weights_keeps_c_by_the_forget_gate(dtype, tolerance, x64):
    cell, forget = LSTM(4), jnp.array([-3.0, 0.0, 1.0, 7.0], dtype)
    params = zero_params(cell, dtype)
    params = params._replace(bias=params.bias.at[4:8].set(forget))
    xs = jnp.ones((LONG, B, 1), dtype)
    log_sigmoid = -np.log1p(np.exp(-np.asarray(forget, np.float64)))
    for unit in range(4):
        c = jnp.zeros((B, 4), dtype).at[:, unit].set(1)
        profile = log_gradient_profile_by_part(cell, params, xs, LSTMCarry(c, jnp.zeros_like(c)))
        want = np.arange(LONG, 0, -1) * log_sigmoid[unit]
        np.testing.assert_allclose(profile.c[:, 0], want, rtol=tolerance)
        assert (profile.h == -np.inf).all()  # exactly zero, and said to be
        joint = log_gradient_profile(cell, params, xs, LSTMCarry(c, jnp.zeros_like(c)))
        np.testing.assert_array_equal(joint, profile.c)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_gru_with_zero_weights_halves_at_every_step(dtype, tolerance, x64):
    cell = GRU(4)
    xs = jnp.ones((LONG, B, 1), dtype)
    cotangent = GRUCarry(jnp.full((B, 4), 0.5, dtype))
    profile = log_gradient_profile(cell, zero_params(cell, dtype), xs, cotangent)
    want = np.arange(LONG, 0, -1) * math.log(0.5)
    np.testing.assert_allclose(profile[:, 0], want, rtol=tolerance)
    np.testing.assert_allclose(half_life(profile[::-1]), 1, rtol=tolerance)


@pytest.mark.slow
def test_irnn_at_initialisation_passes_the_gradient_unchanged():
    cell = Elman(4, activation_fn=jax.nn.relu, recurrent_kernel_init=Identity())
    params = cell.init(KEY, 1)._replace(input_kernel=jnp.full((1, 4), 1e-3))
    cotangent = ElmanCarry(jnp.array([[3.0, 0.0, 4.0, 0.0]]))
    profile = log_gradient_profile(cell, params, jnp.ones((LONG, 1, 1)), cotangent)
    np.testing.assert_allclose(profile, math.log(5), rtol=1e-6)
    assert half_life(jnp.zeros(5)) == np.inf


@pytest.mark.slow
def test_scalar_linear_adjoint_is_a_power(x64):
    cell = Elman(1, activation_fn=identity, param_dtype=jnp.float64)
    params = zero_params(cell, jnp.float64, recurrent_kernel=jnp.full((1, 1), 0.9))
    found = adjoints(cell, params, jnp.zeros((T, 1)), lambda ys: ys[-1, 0])
    np.testing.assert_allclose(found.h[:, 0], 0.9 ** np.arange(T, 0, -1), rtol=1e-12)
    slope = jax.grad(
        lambda w: rnnjax.unroll(
            cell,
            params._replace(recurrent_kernel=w[None, None]),
            jnp.zeros((T, 1)),
            ElmanCarry(jnp.full(1, 0.7)),
        )[1][-1, 0]
    )(jnp.float64(0.9))
    np.testing.assert_allclose(slope, T * 0.7 * 0.9 ** (T - 1), rtol=1e-12)


@pytest.mark.slow
def test_a_step_never_grows_the_gradient_beyond_its_bound(x64):
    """||J|| <= gamma ||U||, gamma = 1 for tanh and 1/4 for the logistic (Pascanu et al. 2013)."""
    for activation, gamma in ((jnp.tanh, 1.0), (jax.nn.sigmoid, 0.25)):
        cell = Elman(H, activation_fn=activation, param_dtype=jnp.float64)
        params = cell.init(KEY, D)
        params = params._replace(recurrent_kernel=jax.random.normal(KEY, (H, H), jnp.float64))
        xs = jax.random.normal(KEY, (50, B, D), jnp.float64)
        cotangent = ElmanCarry(jnp.ones((B, H)))
        profile = log_gradient_profile(cell, params, xs, cotangent)
        steps = np.diff(profile, axis=0)
        bound = math.log(gamma * np.linalg.norm(params.recurrent_kernel, 2))
        assert (-steps <= bound + 1e-12).all()


def problem(cell, dtype=jnp.float64):
    params = jax.tree.map(
        lambda p: p.astype(dtype) + 0.2 * jax.random.normal(KEY, p.shape, dtype), cell.init(KEY, D)
    )
    xs = jax.random.normal(KEY, (T, B, D), dtype)
    carry = jax.tree.map(
        lambda c: 0.5 * jax.random.normal(KEY, c.shape, dtype), cell.initial_carry((B,))
    )
    return params, xs, carry


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("gru", [*CELLS]))
def test_adjoints_equal_finite_differences_of_a_python_loop(name, x64):
    cell = CELLS[name]
    params, xs, start = problem(cell)

    def loss(ys):
        return (ys[-1] ** 2).sum() + jnp.sin(ys[2] * ys[4]).sum()

    def loss_when_displaced(t, displacement):
        carry, ys = start, []
        for now, x in enumerate(xs):
            if now == t:
                carry = jax.tree.map(jnp.add, carry, displacement)
            carry = cell.step(params, carry, cell.project(params, x))
            ys.append(cell.output(carry))
        return loss(jnp.stack(ys))

    found = adjoints(cell, params, xs, loss, start)
    for t in range(T):
        direction = jax.tree.map(lambda c: jax.random.normal(KEY, c.shape, c.dtype), start)
        plus, minus = (
            loss_when_displaced(t, jax.tree.map(lambda d, e=e: e * d, direction))
            for e in (1e-5, -1e-5)
        )
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(direction), strict=True)
        got = sum(jnp.sum(a[t] * d) for a, d in pairs)
        np.testing.assert_allclose(got, (plus - minus) / 2e-5, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", slow_but_for("lstm", [*CELLS]))
def test_the_profile_equals_products_of_jacobians(name, x64):
    cell = CELLS[name]
    params, xs, start = problem(cell)
    cotangent = jax.tree.map(
        lambda c: jax.random.normal(jax.random.key(5), c.shape, c.dtype), start
    )
    joint = log_gradient_profile(cell, params, xs, cotangent, start)
    parts = log_gradient_profile_by_part(cell, params, xs, cotangent, start)
    for b in range(B):
        carry = jax.tree.map(lambda c, b=b: c[b], start)
        jacobians = []
        for x in xs[:, b]:
            u = cell.project(params, x)
            flat, unflatten = jax.flatten_util.ravel_pytree(carry)

            def step(flat, u=u, unflatten=unflatten):
                return jax.flatten_util.ravel_pytree(cell.step(params, unflatten(flat), u))[0]

            jacobians.append(np.asarray(jax.jacobian(step)(flat)))
            carry = unflatten(step(flat))
        v = np.asarray(
            jax.flatten_util.ravel_pytree(jax.tree.map(lambda c, b=b: c[b], cotangent))[0]
        )
        for t in reversed(range(T)):
            v = jacobians[t].T @ v
            np.testing.assert_allclose(joint[t, b], np.log(np.linalg.norm(v)), rtol=1e-10)
            blocks = np.split(v, len(start))
            norms = [np.log(np.linalg.norm(block)) for block in blocks]
            np.testing.assert_allclose([part[t, b] for part in parts], norms, rtol=1e-10)


@pytest.mark.slow
def test_profile_and_adjoints_agree_for_a_loss_at_the_last_step():
    cell = CELLS["lstm"]
    params, xs, start = problem(cell, jnp.float32)
    found = adjoints(cell, params, xs, lambda ys: ys[-1].sum(), start)
    cotangent = LSTMCarry(jnp.zeros((B, H)), jnp.ones((B, H)))
    parts = log_gradient_profile_by_part(cell, params, xs, cotangent, start)
    for a, p in zip(found, parts, strict=True):
        np.testing.assert_allclose(np.log(np.linalg.norm(a, axis=-1)), p, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_float32_equals_float64_where_plain_adjoints_have_vanished(x64):
    cell = Elman(H)
    params, xs, _ = problem(cell)
    params = params._replace(recurrent_kernel=0.3 * params.recurrent_kernel)
    xs = jax.random.normal(KEY, (LONG, B, D), jnp.float64)
    cotangent = ElmanCarry(jnp.ones((B, H), jnp.float64))
    narrow = [jax.tree.map(lambda a: a.astype(jnp.float32), a) for a in (params, xs, cotangent)]
    wide = log_gradient_profile(cell, params, xs, cotangent)
    assert wide.min() < -10_000
    single = log_gradient_profile(cell, *narrow)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, wide, rtol=1e-4)
    plain = adjoints(cell, narrow[0], narrow[1], lambda ys: ys[-1].sum())
    assert (plain.h[0] == 0).all()  # what the profile is for


@pytest.mark.slow
def test_lengths_end_each_sequence_at_its_own_carry():
    cell = CELLS["lstm"]
    params, xs, start = problem(cell, jnp.float32)
    cotangent = jax.tree.map(jnp.ones_like, start)
    lengths = jnp.array([4, 0])
    junk = xs.at[4:, 0].set(np.nan).at[:, 1].set(np.nan)
    profile = log_gradient_profile(cell, params, junk, cotangent, start, seq_lengths=lengths)
    short = log_gradient_profile(cell, params, xs[:4], cotangent, start)
    np.testing.assert_allclose(profile[:4, 0], short[:, 0], rtol=1e-5)
    norm = math.log(math.sqrt(2 * H))
    np.testing.assert_allclose(profile[4:, 0], norm, rtol=1e-6)
    np.testing.assert_allclose(profile[:, 1], norm, rtol=1e-6)
    lined_up = by_lag(profile[:, :1], lengths[:1], 4)
    np.testing.assert_allclose(lined_up[:, 0], short[::-1, 0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_cell_and_any_batch_shape(batch):
    cell = Counting()
    params = cell.init(KEY, D)
    xs = jax.random.normal(KEY, (T, *batch, D))
    cotangent = CountingCarry(jnp.zeros(batch, jnp.int32), jnp.ones((*batch, 2)))
    lag = np.arange(T, 0, -1).reshape(T, *(1 for _ in batch))
    want = np.broadcast_to(lag * math.log(0.8) + math.log(2) / 2, (T, *batch))
    np.testing.assert_allclose(log_gradient_profile(cell, params, xs, cotangent), want, rtol=1e-5)
    parts = log_gradient_profile_by_part(cell, params, xs, cotangent)
    np.testing.assert_allclose(parts.z, want, rtol=1e-5)
    assert (parts.steps == -np.inf).all()
    found = adjoints(cell, params, xs, lambda ys: ys[-1].sum())
    norms = np.linalg.norm(found.z, axis=-1)
    np.testing.assert_allclose(np.log(norms), want, rtol=1e-4, atol=1e-5)
    assert found.steps.shape == (T, *batch) and (found.steps == 0).all()


@pytest.mark.slow
def test_a_zero_gradient_is_minus_infinity_and_not_nan():
    cell = Elman(H, recurrent_kernel_init=jax.nn.initializers.zeros)
    params = cell.init(KEY, D)
    xs = jnp.ones((T, B, D))
    profile = log_gradient_profile(cell, params, xs, ElmanCarry(jnp.ones((B, H))))
    assert (profile == -np.inf).all()
    assert np.isnan(decay_rate(profile)).all() and np.isnan(half_life(profile)).all()


@pytest.mark.slow
def test_the_fit_is_that_of_numpy_and_leaves_out_what_is_not_finite():
    rng = np.random.default_rng(0)
    lags = np.arange(1, 41)
    profile = 3 - 0.07 * lags[:, None] + 0.1 * rng.normal(size=(40, 3))
    want = -np.polyfit(lags, profile, 1)[0]
    np.testing.assert_allclose(decay_rate(jnp.asarray(profile)), want, rtol=1e-3)
    np.testing.assert_allclose(half_life(jnp.asarray(profile)), math.log(2) / want, rtol=1e-3)
    profile[5:9, 0] = -np.inf
    kept = np.r_[:5, 9:40]
    want = -np.polyfit(lags[kept], profile[kept, 0], 1)[0]
    np.testing.assert_allclose(decay_rate(jnp.asarray(profile))[0], want, rtol=1e-3)


def test_quartiles_are_by_rank_and_never_mix_in_minus_infinity():
    got = quartiles([[3.0, 1.0, 2.0, 5.0, 4.0], [-np.inf, -np.inf, -np.inf, 1.0, 2.0]])
    np.testing.assert_array_equal(got["median"], [3, -np.inf])
    np.testing.assert_array_equal(got["q25"], [2, -np.inf])
    np.testing.assert_array_equal(got["q75"], [4, 1])
    assert quartiles([1.0, 2.0, 3.0, 4.0])["median"] == 2.5
    assert quartiles([-np.inf, -np.inf, 3.0, 4.0])["median"] == -np.inf


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_diagnostics_can_be_jitted_vmapped_and_differentiated(name):
    cell = CELLS[name]
    params, xs, start = problem(cell, jnp.float32)
    cotangent = jax.tree.map(jnp.ones_like, start)
    many = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p]), params)
    run = jax.jit(jax.vmap(lambda p: log_gradient_profile(cell, p, xs, cotangent, start)))
    together = run(many)
    half = jax.tree.map(lambda p: 0.5 * p, params)
    alone = log_gradient_profile(cell, half, xs, cotangent, start)
    np.testing.assert_allclose(together[1], alone, rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda p: log_gradient_profile(cell, p, xs, cotangent, start)[0].sum())(params)
    assert all(jnp.isfinite(leaf).all() for leaf in slope)
    assert any((leaf != 0).any() for leaf in slope)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c, p, x: log_gradient_profile(c, p, x, LSTMCarry(jnp.ones((B, H)), jnp.ones(H))),
            r"cotangent.h must have shape \(2, 5\), got \(5,\)",
        ),
        (
            lambda c, p, x: log_gradient_profile(c, p, x, jnp.ones((B, H))),
            "cotangent must have the structure",
        ),
        (lambda c, p, x: adjoints(c, p, x, lambda ys: ys[-1]), "loss must return a scalar, got"),
        (
            lambda c, p, x: adjoints(c, p, x, jnp.sum, c.initial_carry((3,))),
            r"carry.c must have shape \(2, 5\), got \(3, 5\)",
        ),
        (
            lambda c, p, x: log_gradient_profile(
                c, p, x, c.initial_carry((B,)), seq_lengths=[3, T + 1]
            ),
            r"seq_lengths must lie in 0..T = 0..7, got 3..8",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    cell = CELLS["lstm"]
    with pytest.raises(ValueError, match=message):
        call(cell, cell.init(KEY, D), jnp.ones((T, B, D)))


def test_relative_error_is_zero_only_for_equals():
    assert oracles.relative_error(jnp.ones(3), jnp.ones(3)) == 0
    assert oracles.relative_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])) == 0.5
