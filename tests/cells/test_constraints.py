"""Constraints on weights: by NumPy, after a thousand updates, and as the diagnostics see them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import rnnjax
from rnnjax import GRU, LSTM, Elman, diagnostics
from rnnjax.cells import (
    LSTMP,
    Constrained,
    DeltaNet,
    IndRNN,
    LayerNorm,
    LowRank,
    LowRankFactors,
    Rate,
    RateCarry,
    TimedInputs,
    VariationalDropout,
    Zoneout,
    identity,
)
from rnnjax.cells.constraints import Constraint, Dale, Frozen, Mask, NoSelfConnections, Sparse
from rnnjax.initializers import Gaussian, LogUniform
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)
AREAS = np.kron(np.array([[1, 1], [0, 1]]), np.ones((3, 3)))[1:, 1:]  # of 2 and 3 units
RING = np.roll(np.eye(H, dtype=bool), 1, axis=1)
FIXED = np.arange(25.0).reshape(H, H) / 7
EVERY = (Dale(0.6), NoSelfConnections(), Mask(AREAS), Frozen(FIXED, where=RING))


@dataclasses.dataclass(frozen=True)
class Doubled(Constraint):
    """A constraint of one's own."""

    def weights(self, kernel, gates):
        return 2 * kernel


def by_hand(u):
    """Return the kernel under EVERY constraint, entry by entry."""
    u = np.array(u)
    for j in range(H):
        for i in range(H):
            u[j, i] = abs(u[j, i]) * (1 if j < 3 else -1)
            if j == i or AREAS[j, i] == 0:
                u[j, i] = 0
            if (j + 1) % H == i:
                u[j, i] = FIXED[j, i]
    return u


def raw_params(cell, seed=0):
    """Return parameters of random entries, which fulfil no constraint."""
    shapes = jax.eval_shape(lambda: cell.init(KEY, D))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), shapes)


def test_each_gate_has_the_weights_of_a_loop():
    for inner in (Rate(H), GRU(H)):
        cell = Constrained(inner, EVERY, input=(Dale(1.0), Doubled()))
        params = raw_params(cell)
        ready = cell.prepare(params)
        gates = len(cell.gate_names)
        for raw, found in zip(
            np.split(params.recurrent_kernel, gates, axis=1),
            np.split(cell.recurrent_kernel(ready), gates, axis=1),
            strict=True,
        ):
            np.testing.assert_array_equal(found, by_hand(raw).astype(np.float32))
        np.testing.assert_array_equal(ready.input_kernel, 2 * np.abs(params.input_kernel))
        np.testing.assert_array_equal(ready.bias, params.bias)


def test_the_unit_that_sends_has_the_sign():
    """One active unit of each kind: all others are driven up by the first, down by the second."""
    cell = Constrained(Rate(H, activation_fn=identity), recurrent=(Dale(0.6),))
    ready = cell.prepare(raw_params(cell))
    for unit, sign in ((0, 1), (2, 1), (3, -1), (4, -1)):
        (driven,) = cell.recur(ready, RateCarry(jnp.eye(H)[unit]), None)
        assert (sign * driven > 0).all()


def test_constraints_hold_exactly_after_a_thousand_updates():
    """Adam with weight decay; what is not constrained changes."""
    cell = Constrained(
        Rate(H, activation_fn=jax.nn.softplus, tau=LogUniform(30, 300)),
        EVERY,
        input=(Dale(1.0), Sparse(0.7, seed=1)),
    )
    params = cell.init(KEY, D)
    xs = jax.random.normal(KEY, (T, B, D))
    optimizer = optax.adamw(0.02, weight_decay=0.1)

    def loss(params):
        return jnp.mean((rnnjax.unroll(cell, params, xs)[1] - jnp.cos(xs.sum(-1))[..., None]) ** 2)

    def update(state, _):
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params)
        change, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, change), moments), value

    @jax.jit
    def train(params):
        return jax.lax.scan(update, (params, optimizer.init(params)), length=1000)

    (trained, _), losses = train(params)
    assert losses[-1] < 0.7 * losses[0]
    before, after = cell.prepare(params), cell.prepare(trained)
    u = np.asarray(after.recurrent_kernel)
    frozen = FIXED.astype(np.float32)
    np.testing.assert_array_equal(u[RING], frozen[RING])
    np.testing.assert_array_equal(np.asarray(before.recurrent_kernel)[RING], frozen[RING])
    np.testing.assert_array_equal(params.recurrent_kernel[RING], frozen[RING])
    assert (np.abs(np.asarray(trained.recurrent_kernel)[RING][1:] - frozen[RING][1:]) > 0.1).all()
    rest = ~RING
    assert (u[rest & (AREAS == 0)] == 0).all() and (np.diagonal(u) == 0).all()
    free = rest & (AREAS == 1) & ~np.eye(H, dtype=bool)
    signs = np.array([1, 1, 1, -1, -1])[:, None]
    assert (u * signs >= 0)[rest].all()
    assert (np.abs(u - before.recurrent_kernel)[free] > 1e-3).all()
    w = np.asarray(after.input_kernel)
    kept = np.random.default_rng(1).random((D, H)) < 0.7
    assert (w >= 0).all() and (w[~kept] == 0).all() and 0 < kept.sum() < D * H
    assert (after.alpha > 0).all() and (after.alpha < 1).all()


@pytest.mark.slow
def test_diagnostics_see_the_effective_weights(x64):
    """The Jacobians of a linear network are (1 - alpha) I + alpha U^T, and its gradients powers."""
    inner = Rate(H, dt=0.3, tau=1.0, activation_fn=identity, param_dtype=jnp.float64)
    cell = Constrained(inner, EVERY)
    params = raw_params(cell)
    xs = jnp.asarray(np.random.default_rng(1).normal(size=(T, D)))
    one = 0.7 * np.eye(H) + 0.3 * by_hand(params.recurrent_kernel).T
    steps = diagnostics.jacobians(cell, params, xs)
    np.testing.assert_allclose(steps, np.stack([one] * T), rtol=1e-12, atol=1e-14)
    weights = np.cos(np.arange(H))
    profile = diagnostics.gradient_profile(cell, params, xs, lambda ys: ys[-1] @ weights)
    for lag, log_norm in zip(range(1, T + 1), profile.log_norms, strict=True):
        vector = np.linalg.matrix_power(one.T, lag) @ weights
        np.testing.assert_allclose(log_norm, np.log(np.linalg.norm(vector)), rtol=1e-9)
    carry = cell.initial_carry(())
    assert served(cell, cell.prepare(params), carry, xs)


def test_a_rank_one_network_rests_on_the_line_of_m(x64):
    """x = k m with k = (1 / N) n^T phi(k m), for the vectors drawn: the scalar equation."""
    cell = Constrained(Rate(7, tau=40.0, param_dtype=jnp.float64), low_rank=LowRank(1))
    rng = np.random.default_rng(0)
    m = rng.normal(size=7)
    m *= np.sqrt(7) / np.linalg.norm(m)
    n = 2.5 * m + rng.normal(size=7)
    overlap = n @ m / 7
    assert overlap > 1.5
    k = scipy.optimize.brentq(lambda k: n @ np.tanh(k * m) / 7 - k, 0.1, 10, xtol=1e-14)
    params = cell.init(KEY, D)
    assert jax.tree.map(jnp.shape, params.recurrent_kernel) == LowRankFactors((7, 1), (7, 1))
    factors = LowRankFactors(jnp.asarray(m)[:, None], jnp.asarray(n)[:, None])
    params = params._replace(recurrent_kernel=factors)
    carry = RateCarry(jnp.stack([jnp.asarray(m), -0.1 * m, rng.normal(size=7)]))
    final, _ = rnnjax.unroll(cell, params, jnp.zeros((600, 3, D)), carry)
    np.testing.assert_allclose(final.x[:2], [k * m, -k * m], rtol=1e-9)
    np.testing.assert_allclose(np.abs(final.x[2]), np.abs(k * m), rtol=1e-9)
    spectrum = np.linalg.eigvals(cell.recurrent_kernel(cell.prepare(params)))
    np.testing.assert_allclose(np.sort(spectrum.real), [0] * 6 + [overlap], atol=1e-12)


@pytest.mark.slow
def test_the_gradients_of_m_and_n_are_those_of_the_product(x64):
    inner = GRU(H, param_dtype=jnp.float64)
    cell = Constrained(inner, low_rank=LowRank(2))
    params = raw_params(cell)
    m, n = params.recurrent_kernel
    assert m.shape == (3 * H, 2) and n.shape == (H, 2)
    xs = jax.random.normal(KEY, (T, B, D), jnp.float64)

    def slopes(cell, params):
        return jax.grad(lambda p: (rnnjax.unroll(cell, p, xs)[1] ** 2).sum())(params)

    dense = params._replace(recurrent_kernel=n @ m.T / H)
    of_u = slopes(inner, dense).recurrent_kernel
    found = slopes(cell, params).recurrent_kernel
    np.testing.assert_allclose(found.m, of_u.T @ n / H, rtol=1e-10)
    np.testing.assert_allclose(found.n, of_u @ m / H, rtol=1e-10)


@pytest.mark.slow
def test_a_reservoir_keeps_what_an_initialiser_draws():
    """From the seed, gate by gate, the same in float64; no gradient reaches the raw weights."""
    cell = Constrained(LSTM(H), recurrent=(Frozen(Gaussian(0.9), seed=3),))
    params = raw_params(cell)
    keys = jax.random.split(jax.random.key(3), 4)
    want = np.concatenate([Gaussian(0.9)(key, (H, H)) for key in keys], axis=1)
    np.testing.assert_array_equal(jax.jit(cell.prepare)(params).recurrent_kernel, want)
    np.testing.assert_array_equal(cell.init(KEY, D).recurrent_kernel, want)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        np.testing.assert_array_equal(cell.prepare(wide).recurrent_kernel, want)
    many = jax.vmap(cell.prepare)(jax.tree.map(lambda p: jnp.stack([p] * 2), params))
    np.testing.assert_array_equal(many.recurrent_kernel, np.stack([want] * 2))
    gradient = jax.grad(lambda p: rnnjax.unroll(cell, p, jnp.ones((T, D)))[1].sum())(params)
    assert (gradient.recurrent_kernel == 0).all() and (gradient.input_kernel != 0).any()


@pytest.mark.slow
def test_at_the_beginning_raw_weights_are_effective_and_excitation_and_inhibition_cancel():
    units = 200
    network = Rate(units, recurrent_kernel_init=Gaussian())
    constraints = Dale(), NoSelfConnections(), Sparse(0.5)
    cell = Constrained(network, constraints, input=(Dale(1.0),))
    params = cell.init(KEY, D)
    for raw, ready in zip(params[:2], cell.prepare(params)[:2], strict=True):
        np.testing.assert_array_equal(raw, ready)
    kernel = np.asarray(params.recurrent_kernel)
    assert (kernel[:160] >= 0).all() and (kernel[160:] <= 0).all()
    total, positive = kernel.sum(0), kernel[:160].sum(0)
    assert abs(total.mean()) < 0.05 * positive.mean()
    assert np.abs(np.linalg.eigvals(kernel)).max() < 2  # not 0.4 sqrt(H)
    density = (kernel != 0).mean()
    assert abs(density - 0.5 * 199 / 200) < 4 * 0.5 / units
    np.testing.assert_array_equal(Dale().signs(10), [1] * 8 + [-1] * 2)


@pytest.mark.slow
def test_noise_is_the_cells_own_and_wrappers_may_be_around_it():
    inner = Rate(H, sigma=0.3)
    xs, params = jnp.ones((T, B, D)), raw_params(inner)
    noisy = inner.with_noise(KEY, xs)
    cell = Constrained(inner)
    want = rnnjax.unroll(inner, params, noisy)[1]
    np.testing.assert_array_equal(rnnjax.unroll(cell, params, cell.with_noise(KEY, xs))[1], want)
    assert np.abs(want - rnnjax.unroll(cell, params, xs)[1]).max() > 0.05
    elman = Constrained(Elman(H), (Dale(),))
    around, without = Zoneout(elman, 0.3), VariationalDropout(elman, 0.3)
    params = raw_params(elman)
    effective = elman.prepare(params)
    for outer, plain in (
        (around, Zoneout(Elman(H), 0.3)),
        (without, VariationalDropout(Elman(H), 0.3)),
        (elman, elman),
    ):
        drawn = outer.with_noise(KEY, xs)
        given = plain.with_noise(KEY, xs)
        given = given._replace(noise=drawn.noise)
        found = rnnjax.unroll(outer, params, drawn)[1]
        target = rnnjax.unroll(plain, effective, given)[1]
        np.testing.assert_allclose(found, target, rtol=1e-6)
        assert served(outer, outer.prepare(params), outer.initial_carry((B,)), drawn)


def test_equal_constraints_are_equal_values():
    make = functools.partial(Constrained, Rate(H))
    one, two = make((Mask(AREAS), Frozen(FIXED))), make((Mask(AREAS > 0), Frozen(FIXED.copy())))
    assert one == two and hash(one) == hash(two)
    assert Frozen(FIXED.astype(">f8").T).values == Frozen(np.ascontiguousarray(FIXED.T)).values
    assert one != make((Mask(1 - AREAS), Frozen(FIXED)))
    assert one == dataclasses.replace(one, recurrent=one.recurrent)
    first = dataclasses.replace(one.recurrent[0])
    assert first == one.recurrent[0] and "data" not in repr(first)
    ranked = make(low_rank=LowRank(2, m_init=Gaussian()))
    assert ranked.without_initialisers() == make(low_rank=LowRank(2))


def test_what_they_refuse():
    def drawn(cell):
        return lambda: jax.eval_shape(lambda: cell.init(KEY, D))

    cases = [
        (lambda: Mask(FIXED), "connected must hold booleans, or 0 and 1 only"),
        (lambda: Frozen(FIXED, where=FIXED), "where must hold booleans, or 0 and 1 only"),
        (lambda: Sparse(0.0), "density must be above 0 and at most 1, got 0.0"),
        (lambda: Sparse(1.5), "density must be above 0 and at most 1, got 1.5"),
        (lambda: Dale(1.2), "excitatory must be a share within 0..1, got 1.2"),
        (lambda: LowRank(0), "rank must be a positive integer, got 0"),
        (
            drawn(Constrained(Rate(4), (Mask(AREAS),))),
            r"connected must have shape \(4, 4\), as the kernel has, got \(5, 5\)",
        ),
        (
            drawn(Constrained(GRU(4), (Frozen(FIXED),))),
            r"values must have shape \(4, 4\), as the kernel has, got \(5, 5\)",
        ),
        (
            drawn(Constrained(GRU(4), input=(NoSelfConnections(),))),
            "NoSelfConnections needs a square block, got 3 x 4",
        ),
        (
            drawn(Constrained(LSTMP(6, 4))),
            r"a recurrent kernel \[H, G\*H\] with G = 4 gates; that of LSTMP is 4 x 24",
        ),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
    for make, message in [
        (lambda: Constrained(DeltaNet(4)), "Constrained needs a gated cell, got DeltaNet"),
        (drawn(Constrained(IndRNN(4))), "a parameter `recurrent_kernel`, a matrix; IndRNN has"),
        (drawn(Constrained(LayerNorm(GRU(4)))), "a parameter `input_kernel`, .*; LayerNorm has"),
    ]:
        with pytest.raises(TypeError, match=message):
            make()


@pytest.mark.slow
def test_a_constrained_cell_passes_check_cell():
    rate = Rate(5, tau=LogUniform(30, 300), activation_fn=jax.nn.softplus)
    cell = Constrained(rate, EVERY, input=(Dale(1.0),), low_rank=LowRank(2))
    check_cell(cell, TimedInputs(3, 1))
