"""`gradient_profile` against float64 adjoints, and against closed forms at T = 3000."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import Counting
from slow import in_turn

from rnnjax import GRU, LSTM, Elman, diagnostics
from rnnjax.cells import identity
from rnnjax.cells.initializers import Orthogonal
from rnnjax.diagnostics import GradientProfile, adjoints, gradient_profile
from rnnjax.recurrence.carries import norm

KEY = jax.random.key(0)
T, B, D, H = 7, 3, 3, 5
LONG = 3000
CELLS = {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H), "counting": Counting()}
LOSSES = {
    "the last step": lambda ys: (ys[-1] ** 2).sum(),
    "all steps": lambda ys: (ys**2).sum(),
    "two steps": lambda ys: jnp.sin(ys[2]).sum() - ys[5].sum(),
}


def floating(tree):
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def wide(cell):
    params = cell.init(KEY, D)
    xs = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)
    return jax.tree.map(lambda p: p.astype(jnp.float64), params), xs


@pytest.mark.parametrize(("cell", "loss"), in_turn(CELLS, LOSSES))
def test_it_is_the_log_of_the_adjoints_norm_at_each_lag(cell, loss, x64):
    params, xs = wide(cell)
    profile = gradient_profile(cell, params, xs, loss)
    want = adjoints(cell, params, xs, loss)
    np.testing.assert_array_equal(profile.lags, np.arange(1, T + 1))
    logs = jnp.log(norm(floating(want), 2))
    np.testing.assert_allclose(profile.log_norms, logs[::-1], rtol=1e-10, atol=1e-10)
    for part, leaf in zip(jax.tree.leaves(profile.parts), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(part, jnp.log(norm([leaf], 2))[::-1], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", [LSTM(H), pytest.param(GRU(H), marks=pytest.mark.slow)], ids=["lstm", "gru"]
)
def test_float32_follows_float64(cell, x64):
    params, xs = wide(cell)
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32), (params, xs))
    want = gradient_profile(cell, params, xs, LOSSES["all steps"])
    got = gradient_profile(cell, *narrow, LOSSES["all steps"])
    assert got.log_norms.dtype == jnp.float32
    np.testing.assert_allclose(got.log_norms, want.log_norms, atol=1e-4)


def linear(gain, dtype=jnp.float32):
    cell = Elman(
        8, activation_fn=identity, recurrent_kernel_init=Orthogonal(gain), param_dtype=dtype
    )
    return cell, cell.init(KEY, 1)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.9, 1.0, 1.1])
def test_where_float32_adjoints_underflow_a_loss_at_the_end_decays_by_ln_gain(gain):
    cell, params = linear(gain)
    xs = jnp.zeros((LONG, B, 1))
    weights = jax.random.normal(KEY, (B, 8))
    profile = gradient_profile(cell, params, xs, lambda ys: (weights * ys[-1]).sum())
    start = np.log(np.linalg.norm(weights, axis=-1))
    np.testing.assert_allclose(profile.at_end, start, rtol=1e-5)
    want = start + math.log(gain) * np.arange(1, LONG + 1)[:, None]
    np.testing.assert_allclose(profile.log_norms, want, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(profile.relative(), want - start, rtol=1e-5, atol=1e-3)
    rate = -math.log(gain)
    np.testing.assert_allclose(profile.decay_rate(), rate, atol=1e-6)
    half_life = math.log(2) / rate if rate > 0 else None
    if half_life:
        np.testing.assert_allclose(profile.half_life(), half_life, rtol=1e-5)
    if gain < 1:
        plain = adjoints(cell, params, xs, lambda ys: (weights * ys[-1]).sum())
        assert (plain.h[0] == 0).all()
        assert np.isfinite(profile.log_norms).all()


@pytest.mark.slow
def test_losses_far_apart_add_up_where_float32_cannot_hold_both():
    """One unit s' = a s and L = y_{T-1} + e^-60 y_m: a_t = a^(T-t) + e^-60 a^(m+1-t), t <= m."""
    a, middle = 0.9, 1500
    cell = Elman(1, activation_fn=identity)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, 1))
    params = params._replace(recurrent_kernel=jnp.full((1, 1), a))
    loss = lambda ys: ys[-1, 0, 0] + math.exp(-60) * ys[middle, 0, 0]  # noqa: E731
    profile = gradient_profile(cell, params, jnp.zeros((LONG, 1, 1)), loss)
    lag = np.arange(1, LONG + 1)
    late = lag * math.log(np.float32(a))
    early = np.where(lag >= LONG - middle, late - (LONG - middle - 1) * math.log(a) - 60, -np.inf)
    np.testing.assert_allclose(profile.log_norms[:, 0], np.logaddexp(late, early), rtol=2e-6)


@pytest.mark.slow
def test_a_gradient_that_is_zero_is_minus_infinity():
    cell = LSTM(4)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, 1))
    profile = gradient_profile(cell, params, jnp.ones((T, B, 1)), lambda ys: ys[-1].sum())
    assert (profile.parts.h == -np.inf).all()
    np.testing.assert_allclose(np.diff(profile.parts.c, axis=0), math.log(0.5), rtol=1e-5)
    nothing = gradient_profile(cell, params, jnp.ones((T, B, 1)), lambda ys: 0 * ys.sum())
    assert (nothing.log_norms == -np.inf).all()
    assert np.isnan(nothing.half_life())
    early = gradient_profile(cell, params, jnp.ones((T, B, 1)), lambda ys: ys[3].sum())
    assert (early.log_norms[: T - 4] == -np.inf).all()
    assert np.isfinite(early.log_norms[T - 4 :]).all()


@pytest.mark.slow
def test_lags_count_from_each_sequences_own_end(x64):
    cell = LSTM(H)
    params, xs = wide(cell)
    lengths = np.array([7, 4, 1])
    xs = jnp.where(np.arange(T)[:, None, None] < lengths[:, None], xs, jnp.nan)

    def loss(ys):
        return (ys[lengths - 1, np.arange(B)] ** 2).sum() + ((ys[-1] - 1) ** 2).sum()

    profile = gradient_profile(cell, params, xs, loss, seq_lengths=lengths)
    for b, length in enumerate(lengths):
        alone = gradient_profile(
            cell,
            params,
            xs[:length, b],
            lambda ys, own=length: (ys[-1] ** 2).sum() + (own == T) * ((ys[-1] - 1) ** 2).sum(),
        )
        np.testing.assert_allclose(profile.log_norms[:length, b], alone.log_norms, atol=1e-10)
        np.testing.assert_allclose(profile.at_end[b], alone.at_end, atol=1e-10)
        assert np.isnan(profile.log_norms[length:, b]).all()
    assert np.isfinite(profile.median()[0])
    assert np.isnan(profile.median()[1:]).all()  # the last sequence has no second lag


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_quartiles_and_half_life_are_those_of_the_tables(count):
    values = -np.abs(np.random.default_rng(0).normal(size=(T, count))).astype(np.float32)
    values = values - np.arange(T, dtype=np.float32)[:, None]
    for case in (values, np.where(values < -6, -np.inf, values)):
        profile = GradientProfile(jnp.arange(1, T + 1), jnp.asarray(case), None, jnp.zeros(count))
        want = diagnostics.quartiles(case)
        for name, rows in profile.quartiles().items():
            np.testing.assert_allclose(rows, want[name], rtol=1e-6)
        np.testing.assert_allclose(
            profile.half_life(), diagnostics.half_life(jnp.asarray(want["median"])), rtol=1e-5
        )


@pytest.mark.slow
def test_a_population_has_a_half_life_per_network():
    cell = Elman(8, activation_fn=identity)
    gains = jnp.array([0.5, 0.9])
    kernels = jnp.eye(8) * gains[:, None, None]

    def measure(kernel):
        params = cell.init(KEY, 1)._replace(recurrent_kernel=kernel)
        return gradient_profile(
            cell, params, jnp.ones((T, B, 1)), lambda ys: ys[-1].sum()
        ).half_life()

    got = jax.jit(jax.vmap(measure))(kernels)
    np.testing.assert_allclose(got, math.log(2) / -np.log(gains), rtol=1e-4)


@pytest.mark.slow
def test_a_loss_must_be_a_scalar():
    cell = Elman(H)
    with pytest.raises(ValueError, match=r"loss must return a scalar, got shape \(3, 5\)"):
        gradient_profile(cell, cell.init(KEY, D), jnp.ones((T, B, D)), lambda ys: ys[-1])
