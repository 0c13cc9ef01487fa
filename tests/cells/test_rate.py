"""The rate network: its equation in NumPy, Elman, the variance of its noise, irregular steps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from slow import slow_but_for

import rnnjax
from rnnjax import Elman, networks
from rnnjax.cells import (
    ElmanCarry,
    GatedParams,
    Noisy,
    Rate,
    RateCarry,
    RateParams,
    TimedInputs,
    identity,
)
from rnnjax.initializers import Linspace, LogUniform
from rnnjax.layers import RNN
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)
TAUS = (20.0, 30, 55.5, 100, 400)
KINDS: dict[str, dict[str, Any]] = {
    "one tau": {},
    "a tau for each unit, noise": {"tau": TAUS, "sigma": 0.3},
    "learned tau, noise": {"tau": LogUniform(30, 300), "sigma": 0.3},
    "one tau, noise, timed": {"sigma": 0.3, "timed": True},
    "a tau for each unit, timed": {"tau": TAUS, "timed": True},
    "learned tau, noise, timed": {"tau": LogUniform(30, 300), "sigma": 0.3, "timed": True},
}


def drawn(timed=False, **options):
    """Return a cell, parameters, inputs with the cell's noise and a carry, all in float64."""
    cell = Rate(H, activation_fn=jax.nn.sigmoid, param_dtype=jnp.float64, **options)
    rng = np.random.default_rng(0)
    w, u, b, x0 = (jnp.asarray(rng.normal(size=s)) for s in ((D, H), (H, H), H, (B, H)))
    raw = jnp.asarray(rng.normal(size=H)) if callable(cell.tau) else None
    xs: Any = jnp.asarray(rng.normal(size=(T, B, D)))
    if timed:
        xs = TimedInputs(xs, jnp.asarray(rng.uniform(0, 150, (T, B, 1))))
    return cell, RateParams(w, u, b, raw), cell.with_noise(KEY, xs), RateCarry(x0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("options", slow_but_for(["one tau", "learned tau, noise, timed"], KINDS))
def test_values_are_those_of_the_equation(options, x64):
    cell, params, xs, start = drawn(**options)
    w_in, w = np.asarray(params.input_kernel).T, np.asarray(params.recurrent_kernel).T
    b = np.asarray(params.bias)
    tau = cell.dt * (1 + np.exp(params.raw_tau)) if callable(cell.tau) else np.asarray(cell.tau)
    alpha = np.broadcast_to(cell.dt / tau, H)
    np.testing.assert_allclose(cell.time_constants(params), np.broadcast_to(tau, H), rtol=1e-12)
    x, (values, xi) = np.array(start.x), xs
    final, rs = rnnjax.unroll(cell, params, xs, start)
    for t in range(T):
        for n in range(B):
            u, a = (values.value if options.get("timed") else values)[t, n], alpha
            if options.get("timed"):
                a = 1 - (1 - alpha) ** (float(values.dt[t, n, 0]) / cell.dt)
            x[n] = (1 - a) * x[n] + a * (w @ sigmoid(x[n]) + w_in @ np.asarray(u) + b)
            if xi is not None:
                x[n] += cell.sigma * np.sqrt(2 * a * (2 - a) / (2 - alpha)) * np.asarray(xi[t, n])
        np.testing.assert_allclose(rs[t], sigmoid(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(final.x, x, rtol=1e-12, atol=1e-12)
    assert (xi is not None) == bool(cell.sigma)
    assert served(cell, cell.prepare(params), start, xs)


def test_with_alpha_of_one_the_rates_are_those_of_elman(x64):
    """In values and gradients, from r_0 = phi(x_0)."""
    cell, params, (xs, _), start = drawn(dt=0.7, tau=0.7)
    elman = Elman(H, activation_fn=jax.nn.sigmoid, param_dtype=jnp.float64)

    def loss(cell, params, xs, start):
        rates = rnnjax.unroll(cell, params, xs, start)[1]
        return jnp.sum(rates**2 * jnp.cos(jnp.arange(rates.size)).reshape(rates.shape)), rates

    def run(cell, *arguments):
        return jax.grad(lambda *a: loss(cell, *a), (0, 1), has_aux=True)(*arguments)

    (of_rate, of_xs), rates = run(cell, params, xs, start)
    blocks = GatedParams(*params[:3])
    (of_elman, want), hs = run(elman, blocks, xs, ElmanCarry(jax.nn.sigmoid(start.x)))
    np.testing.assert_allclose(rates, hs, rtol=1e-13)
    for got, gradient in zip((*of_rate[:3], of_xs), (*of_elman, want), strict=True):
        np.testing.assert_allclose(got, gradient, rtol=1e-11, atol=1e-14)


def test_the_variance_of_a_linear_network_solves_the_lyapunov_equation(x64):
    """C = A C A^T + 2 alpha sigma^2 I, A = (1 - alpha) I + alpha W, for unequal time constants."""
    sequences, burn_in, steps = 256, 100, 400
    cell = Rate(
        H, tau=(25.0, 40, 60, 80, 110), sigma=0.7, activation_fn=identity, param_dtype=jnp.float64
    )
    rng = np.random.default_rng(0)
    w = 0.8 * rng.normal(size=(H, H)) / np.sqrt(H)
    alpha = np.diag(cell.dt / np.asarray(cell.tau))
    a = np.eye(H) - alpha + alpha @ w
    assert np.abs(np.linalg.eigvals(a)).max() < 0.92 and np.abs(w - w.T).max() > 0.3
    want = scipy.linalg.solve_discrete_lyapunov(a, 2 * alpha * 0.7**2)

    params = RateParams(jnp.zeros((1, H)), jnp.asarray(w.T), jnp.zeros(H), None)
    xs = cell.with_noise(KEY, jnp.zeros((burn_in + steps, sequences, 1)))
    rs = np.asarray(rnnjax.unroll(cell, params, xs)[1])[burn_in:]
    each = np.einsum("tbi,tbj->bij", rs, rs) / steps  # independent between sequences
    error = each.std(0) / np.sqrt(sequences)
    assert (error < 0.02 * np.sqrt(np.outer(np.diag(want), np.diag(want)))).all()
    assert (np.abs(each.mean(0) - want) < 4 * error).all()
    assert np.abs(each.mean(0) - want.T[::-1, ::-1]).max() > 20 * error.max()  # no other matrix


def test_a_learned_time_constant_has_the_slope_of_differences_and_stays_above_dt(x64):
    cell, params, xs, start = drawn(tau=LogUniform(30, 300), sigma=0.3, timed=True)
    xs = xs._replace(x=xs.x._replace(dt=xs.x.dt.at[2].set(0.0)))  # a step of no time

    @jax.jit
    def loss(raw):
        rates = rnnjax.unroll(cell, params._replace(raw_tau=raw), xs, start)[1]
        return jnp.sum(rates**2 * jnp.cos(jnp.arange(rates.size)).reshape(rates.shape))

    slope = jax.jit(jax.grad(loss))
    raw = params.raw_tau
    for unit, moved in enumerate(np.eye(H)):
        two, one = ((loss(raw + h * moved) - loss(raw - h * moved)) / (2 * h) for h in (2e-4, 1e-4))
        assert float(slope(raw)[unit]) == pytest.approx(float((4 * one - two) / 3), rel=1e-7)

    optimizer = optax.adam(1.0)

    def update(state, _):
        raw, moments = state
        change, moments = optimizer.update(slope(raw), moments)
        return (optax.apply_updates(raw, change), moments), cell.prepare(
            params._replace(raw_tau=raw)
        )

    (raw, _), ready = jax.lax.scan(update, (raw, optimizer.init(raw)), length=100)
    assert (ready.alpha > 0).all() and (ready.alpha < 1).all() and np.isfinite(raw).all()
    assert np.ptp(ready.alpha, axis=0).max() > 0.3
    assert (cell.time_constants(params._replace(raw_tau=raw)) > cell.dt).all()


@pytest.mark.slow
def test_one_long_step_is_many_short_ones_with_the_input_held(x64):
    """Also in the variance of the noise; a step of dt is the regular one; one of 0 is none."""
    cell, params, (xs, xi), _ = drawn(tau=TAUS, sigma=0.3)
    ready = cell.prepare(params._replace(recurrent_kernel=jnp.zeros((H, H))))
    x, start = xs[0, 0], RateCarry(jnp.linspace(-1.0, 1.0, H))

    def step(inputs, carry):
        return cell.step(ready, carry, cell.project(ready, inputs))

    def timed(factor, carry, noise=None):
        inputs = TimedInputs(x, jnp.array([factor * cell.dt]))
        return step(Noisy(inputs, noise), carry).x

    carry = start
    for _ in range(4):
        carry = step(x, carry)
    np.testing.assert_allclose(timed(4.0, start), carry.x, rtol=1e-12)
    for noise in (None, xi[0, 0]):
        plain = step(Noisy(x, noise), start).x
        np.testing.assert_allclose(timed(1.0, start, noise), plain, rtol=1e-13)
        np.testing.assert_array_equal(timed(0.0, start, noise), start.x)
    ones = jnp.ones(H)
    short, long = (timed(k, start, ones) - timed(k, start) for k in (1.0, 4.0))
    kept = (1 - cell.dt / np.asarray(TAUS)) ** 2
    np.testing.assert_allclose(long**2, short**2 * (1 + kept + kept**2 + kept**3), rtol=1e-10)


@pytest.mark.slow
def test_gaps_of_any_length_with_alpha_of_one_have_finite_gradients():
    cell = Rate(H, dt=20, tau=(20, 20, 20, 40, 4000), sigma=0.1)
    params = cell.init(KEY, TimedInputs(D, 1))
    dt = jnp.array([0.0, 1e-3, 20.0, 1e6, 0.0]).reshape(5, 1, 1)
    xs = TimedInputs(jnp.ones((5, 1, D)), dt)

    def loss(params, xs):
        return rnnjax.unroll(cell, params, cell.with_noise(KEY, xs))[1].sum()

    gradients = jax.jit(jax.grad(loss, (0, 1)))(params, xs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_a_layer_takes_irregular_time_steps():
    layer = RNN(Rate(H, tau=LogUniform(30, 300)))
    xs = TimedInputs(jnp.ones((B, T, D)), jnp.linspace(0.0, 90.0, B * T).reshape(B, T, 1))
    variables = layer.init(KEY, xs)
    params = layer.cell_params(variables["params"], TimedInputs(D, 1))
    first = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), xs)
    want = jnp.swapaxes(rnnjax.unroll(layer.cell, params, first)[1], 0, 1)
    np.testing.assert_allclose(layer.apply(variables, xs), want, rtol=1e-6)
    assert np.abs(layer.apply(variables, xs._replace(dt=xs.dt + 20)) - want).max() > 0.01


@pytest.mark.slow
def test_a_layer_draws_noise_where_it_has_a_stream_of_keys():
    layer = RNN(Rate(H, sigma=0.5))
    xs = jnp.ones((B, T, D))
    variables = layer.init(KEY, xs)
    quiet, still = layer.apply(variables, xs), layer.apply(variables, xs, deterministic=True)
    np.testing.assert_array_equal(quiet, still)
    noisy = layer.apply(variables, xs, rngs={"dropout": KEY})
    assert np.abs(noisy - quiet).max() > 0.1
    np.testing.assert_array_equal(RNN(Rate(H)).apply(variables, xs, rngs={"dropout": KEY}), quiet)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = Rate(400, tau=LogUniform(30, 3000))
    params = cell.init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 400), (400, 400), (400,), (400,)]
    tau = np.sort(cell.time_constants(params))
    assert 30 <= tau[0] < 33 and 2700 < tau[-1] <= 3000.1
    assert np.abs(np.log(tau) - np.linspace(*np.log([30, 3000]), 400)).max() < 0.3
    assert cell.without_initialisers() == Rate(400, tau=Linspace(50, 60)).without_initialisers()
    assert callable(cell.without_initialisers().tau)
    assert Rate(H, tau=TAUS, kernel_init=LogUniform(1, 2)).without_initialisers() == Rate(
        H, tau=TAUS
    )
    assert Rate(H).init(KEY, D).raw_tau is None and Rate(H).output_size == H
    np.testing.assert_array_equal(Rate(H).time_constants(Rate(H).init(KEY, D)), 100)
    assert networks.make_cell("rate", H) == Rate(H)
    assert networks.label("deep_rate") == "deep Rate"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0.0}, "dt must be positive, got 0.0"),
        ({"tau": 19.0}, "tau must be finite and at least dt = 20.0, so that .*; got 19.0"),
        ({"tau": (100, 30, 20, 10, 50)}, "tau must be finite and at least dt = 20.0, .*; got 10"),
        ({"tau": float("nan")}, "tau must be finite and at least dt .*; got nan"),
        ({"tau": float("inf")}, "tau must be finite and at least dt .*; got inf"),
        ({"tau": (100.0, 30)}, r"a tuple of features = 5 numbers or an .* got \(100.0, 30\)"),
        ({"sigma": -0.1}, "sigma must be a number that is at least 0, got -0.1"),
        ({"features": 0}, "features must be a positive integer, got 0"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Rate(H), **options)


def test_what_init_refuses():
    with pytest.raises(ValueError, match="learned tau must be greater than dt = 20.0.*drew 10.0"):
        Rate(H, tau=Linspace(10.0, 50.0)).init(KEY, D)
    with pytest.raises(ValueError, match=r"dt must have shape \[T, \*batch, 1\], got 3 features"):
        Rate(H).init(KEY, TimedInputs(D, 3))
    with pytest.raises(ValueError, match="0 < low <= high must hold, got low = 3, high = 2"):
        LogUniform(3, 2)


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(Rate(5, tau=TAUS), 3)  # timed, learned and constrained: see test_constraints.py
