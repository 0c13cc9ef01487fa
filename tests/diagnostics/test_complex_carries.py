"""Diagnostics of cells whose carry holds complex and integer leaves, in real coordinates."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax
from rnnjax import Cell, diagnostics
from rnnjax.diagnostics import adjoints, jacobians, lyapunov_spectrum, weights

KEY = jax.random.key(0)
T, B, D, H = 7, 3, 2, 4


class Params(NamedTuple):
    a: Any  # [H] complex
    w: Any  # [D, H] complex


class Carry(NamedTuple):
    steps: Any
    z: Any


@dataclasses.dataclass(frozen=True)
class Spiral(Cell):
    """z' = a z + x W with complex a, and y = (Re z, Im z). Linear; counts its steps."""

    values: tuple[complex, ...]

    def init(self, key, input_size):
        w = jax.random.normal(key, (input_size, len(self.values)), jnp.complex64)
        return Params(jnp.asarray(self.values, jnp.complex64), w)

    def initial_carry(self, batch_shape):
        z = jnp.zeros((*batch_shape, len(self.values)), jnp.complex64)
        return Carry(jnp.zeros(batch_shape, jnp.int32), z)

    def project(self, ready, x):
        return x @ ready.w

    def step(self, ready, carry, u):
        return Carry(carry.steps + 1, ready.a * carry.z + u)

    def output(self, carry):
        return jnp.concatenate([carry.z.real, carry.z.imag], axis=-1)


@dataclasses.dataclass(frozen=True)
class Bent(Spiral):
    """z' = a conj(z) / (1 + |z|^2) + roll(z)^2 / 9 + x W: not holomorphic, and units mix."""

    def step(self, ready, carry, u):
        z = carry.z
        bent = ready.a * z.conj() / (1 + (z * z.conj()).real) + jnp.roll(z, 1, -1) ** 2 / 9
        return Carry(carry.steps + 1, bent + u)


VALUES = tuple(0.9 * np.exp(1j * np.arange(H)))
CELLS = {"spiral": Spiral(VALUES), "bent": Bent(VALUES)}


def problem(cell):
    params = jax.tree.map(lambda p: p.astype(jnp.complex128), cell.init(KEY, D))
    xs = jax.random.normal(jax.random.key(1), (T, B, D), jnp.float64)
    z = jax.random.normal(jax.random.key(2), (B, H), jnp.complex128)
    return params, xs, Carry(jnp.zeros(B, jnp.int32), z)


def to_real(z):
    """Return the real coordinates `[..., 2 H]`, each real part before its imaginary part."""
    return np.stack([z.real, z.imag], -1).reshape(*z.shape[:-1], -1)


def to_complex(flat):
    return flat[..., ::2] + 1j * flat[..., 1::2]


def last(ys):
    return (jnp.sin(ys[-1]) ** 2).sum()


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_jacobians_and_adjoints_are_finite_differences_in_both_directions(cell, x64):
    params, xs, start = problem(cell)
    found = jacobians(cell, params, xs, start)
    assert found.shape == (T, B, 2 * H, 2 * H) and found.dtype == jnp.float64
    _, _, carries = rnnjax.unroll(cell, params, xs, start, return_carries=True)
    t = 3
    us = cell.project(params, xs)
    for place, direction in enumerate(np.eye(2 * H)):
        ahead, behind = (
            cell.step(
                params,
                Carry(carries.steps[t - 1], carries.z[t - 1] + h * to_complex(direction)),
                us[t],
            ).z
            for h in (1e-6, -1e-6)
        )
        want = to_real(np.asarray(ahead - behind)) / 2e-6
        np.testing.assert_allclose(found[t, ..., place], want, atol=1e-8)

    slopes = adjoints(cell, params, xs, last, start)
    assert (slopes.steps == 0).all()
    after = rnnjax.unroll(cell, params, xs, start)[0]
    gradient = jax.grad(lambda z: last(cell.output(Carry(after.steps, z))[None]))(after.z)
    vector = to_real(np.asarray(gradient.conj()))  # (dL/dx, dL/dy): JAX's is dL/dx - i dL/dy
    for t in reversed(range(T)):
        vector = np.einsum("bij,bi->bj", found[t], vector)
        np.testing.assert_allclose(to_real(np.asarray(slopes.z[t].conj())), vector, atol=1e-10)
    numeric = np.zeros((B, 2 * H))
    for b, place in np.ndindex(B, 2 * H):
        moves = np.zeros((B, 2 * H))
        moves[b, place] = 1e-6
        values = [
            last(
                rnnjax.unroll(cell, params, xs, start._replace(z=start.z + s * to_complex(moves)))[
                    1
                ]
            )
            for s in (1, -1)
        ]
        numeric[b, place] = (values[0] - values[1]) / 2e-6
    np.testing.assert_allclose(to_real(np.asarray(slopes.z[0].conj())), numeric, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_profiles_and_singular_values_are_those_of_the_real_products(cell, x64):
    params, xs, start = problem(cell)
    steps = np.asarray(jacobians(cell, params, xs, start))
    norms = np.linalg.norm(to_real(np.asarray(adjoints(cell, params, xs, last, start).z)), axis=-1)
    profile = diagnostics.gradient_profile(cell, params, xs, last, start)
    np.testing.assert_allclose(profile.log_norms[::-1], np.log(norms), rtol=1e-9)
    np.testing.assert_allclose(profile.parts.z, profile.log_norms, atol=1e-12)
    assert (profile.parts.steps == -np.inf).all()

    after = rnnjax.unroll(cell, params, xs, start)[0]
    cotangent = jax.grad(lambda z: last(cell.output(Carry(after.steps, z))[None]))(after.z)
    cotangent = Carry(jnp.zeros(B, jnp.int32), cotangent)
    logs = diagnostics.log_gradient_profile(cell, params, xs, cotangent, start)
    np.testing.assert_allclose(logs, np.log(norms), rtol=1e-9)
    parts = diagnostics.log_gradient_profile_by_part(cell, params, xs, cotangent, start)
    np.testing.assert_allclose(parts.z, np.log(norms), rtol=1e-9)

    product = np.broadcast_to(np.eye(2 * H), (B, 2 * H, 2 * H))
    want = []
    for t in reversed(range(T)):
        product = product @ steps[t]
        want.append(np.log(np.linalg.svd(product, compute_uv=False)))
    for num in (None, 2):
        found = diagnostics.jacobian_singular_values(
            cell, params, xs, range(1, T + 1), num, initial_carry=start, tolerance=1e-9
        )
        tolerance = 1e-8 if num is None else 1e-4
        np.testing.assert_allclose(found.log_values, np.array(want)[..., :num], atol=tolerance)


TWO = Spiral((0.9 * np.exp(0.5j), 0.5 * np.exp(1j)))  # what follows is known in closed form


@pytest.mark.slow
def test_singular_values_count_real_dimensions():
    """a = diag(.9 e^.5i, .5 e^i): k ln .9 and k ln .5, each twice; ln (.9 / .5)^k."""
    params, xs = TWO.init(KEY, D), jax.random.normal(KEY, (20, B, D))
    lags = [1, 5, 20]
    found = diagnostics.jacobian_singular_values(TWO, params, xs, lags)
    want = np.multiply.outer(lags, np.log([0.9, 0.9, 0.5, 0.5]))[:, None]
    np.testing.assert_allclose(found.log_values, np.broadcast_to(want, (3, B, 4)), atol=1e-4)
    ratio = np.multiply.outer(lags, np.full(B, np.log(0.9 / 0.5)))
    np.testing.assert_allclose(found.log_condition, ratio, atol=1e-4)


@pytest.mark.slow
def test_fisher_memory_of_a_complex_diagonal_is_that_of_its_moduli():
    """J(k) is the mean of |a|^2k (1 - |a|^2), each a with the share of v that falls to it."""
    params = TWO.init(KEY, 1)
    lags = np.arange(6)
    share = np.abs(np.asarray(params.w[0])) ** 2
    share = share / share.sum()
    moduli = np.array([0.81, 0.25])
    want = (share * (1 - moduli) * moduli ** lags[:, None]).sum(-1)
    found = diagnostics.fisher_memory_curve(TWO, params, lags)
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_histograms_and_health_of_a_complex_diagonal():
    params = TWO.init(KEY, 1)
    (found,) = diagnostics.histogram({"a": params.a[None]}, 4).values()
    parts = np.concatenate([np.real(TWO.values), np.imag(TWO.values)])
    np.testing.assert_array_equal(found.counts[0], np.histogram(parts, found.edges)[0])
    (logs,) = diagnostics.log_histogram({"a": params.a[None]}, 4).values()
    np.testing.assert_allclose(logs.edges[[0, -1]], [0.5, 0.9], rtol=1e-6)
    assert logs.counts.tolist() == [[1, 0, 0, 1]]
    assert weights.health(params)["a"] == weights.Health(2, 0, 0, 0)
    assert [*weights.by_gate(TWO, params)] == ["a", "w"]


@pytest.mark.slow
def test_exponents_count_real_dimensions():
    cell = TWO
    params = cell.init(KEY, D)
    xs = jax.random.normal(KEY, (500, B, D))
    found = lyapunov_spectrum(cell, params, xs, transient=100)
    want = np.log([0.9, 0.9, 0.5, 0.5])
    np.testing.assert_allclose(found.exponents, np.broadcast_to(want, (B, 4)), atol=1e-5)
    with pytest.raises(ValueError, match=r"num must lie in 1\.\.N = 1\.\.4"):
        lyapunov_spectrum(cell, params, xs, 5)


@pytest.mark.slow
def test_at_lags_where_float32_underflows_a_complex_cell_decays_by_its_modulus():
    cell = Spiral((0.9 * np.exp(0.5j),))
    profile = diagnostics.gradient_profile(
        cell, cell.init(KEY, D), jnp.zeros((3000, 1, D)), lambda ys: ys[-1].sum()
    )
    np.testing.assert_allclose(profile.half_life(), math.log(2) / -math.log(0.9), rtol=1e-4)
    want = math.log(2) / 2 + np.arange(1, 3001) * math.log(0.9)
    np.testing.assert_allclose(profile.log_norms[:, 0], want, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_complex_parameters_gradients_by_lag_add_up(cell, x64):
    params, xs, start = problem(cell)
    parts = diagnostics.parameter_gradient_by_lag(cell, params, xs, last, start)
    whole = jax.grad(lambda p: last(rnnjax.unroll(cell, p, xs, start)[1]))(params)
    for part, leaf in zip(parts, whole, strict=True):
        assert part.dtype == jnp.complex128
        np.testing.assert_allclose(part.sum(0), leaf, rtol=1e-9, atol=1e-12)
    ratio = diagnostics.gradient_signal_to_noise(cell, params, xs, last, start)
    own = [
        diagnostics.parameter_gradient_by_lag(
            cell,
            params,
            xs[:, b : b + 1],
            last,
            jax.tree.map(lambda s, b=b: s[b : b + 1], start),
        )
        for b in range(B)
    ]
    flat = np.stack([np.concatenate([g.a, g.w.reshape(T, -1)], 1) for g in own])  # [B, T, N]
    noise = (np.abs(flat - flat.mean(0)) ** 2).sum(-1).mean(0)
    np.testing.assert_allclose(ratio, (np.abs(flat.mean(0)) ** 2).sum(-1) / noise, rtol=1e-8)


@pytest.mark.slow
def test_fisher_memory_of_a_rotation_is_that_of_its_modulus():
    """z' = a z + x: the real rotation by arg a times |a| is normal, J(k) = |a|^2k (1 - |a|^2)."""
    cell = Spiral((0.8 * np.exp(0.7j),))
    params = cell.init(KEY, 1)
    lags = np.arange(6)
    found = diagnostics.fisher_memory_curve(cell, params, lags)
    np.testing.assert_allclose(found, 0.64**lags * 0.36, rtol=1e-5)
    with pytest.raises(ValueError, match="cell must be linear"):
        diagnostics.fisher_memory_curve(Bent((0.5 + 0j, 0.5j)), cell.init(KEY, 1), lags)


@pytest.mark.slow
def test_layers_and_probes_see_complex_carries():
    cell = Spiral(VALUES)
    xs = jax.random.normal(KEY, (T, B, D))
    net = rnnjax.layers.RNN(cell, time_major=True)
    variables = net.init(KEY, xs)
    params = net.cell_params(variables["params"])
    found = diagnostics.log_gradient_by_layer(net, variables, last, xs, time_major=True)["carry"]
    want = np.asarray(adjoints(cell, params, xs, last).z)
    norms = np.linalg.norm(want, axis=-1)
    np.testing.assert_allclose(found, np.log(norms), rtol=1e-4, atol=1e-4)

    def probed(probe, marks):
        return last(rnnjax.unroll(cell, params, xs, norm_probe=probe, perturbations=marks)[1])

    marks = diagnostics.zero_perturbations(cell, xs)
    probe, slopes = jax.grad(probed, (0, 1))(jnp.zeros((T, B)), marks)
    np.testing.assert_allclose(probe, norms, rtol=1e-4)
    np.testing.assert_allclose(slopes.z, want, rtol=1e-4, atol=1e-6)


def test_weights_keep_their_imaginary_parts():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 20)) + 1j * rng.normal(size=(2, 20))
    values[0, 0] = 0
    values[1, 1] = complex(np.nan, 1)
    found = diagnostics.histogram({"a": values}, 5)["a"]
    both = np.concatenate([values.real, values.imag], 1)
    assert (found.counts.sum(-1) + found.zero + found.not_finite == 40).all()
    counts = np.histogram(both[0][both[0] != 0], found.edges)[0]
    np.testing.assert_array_equal(found.counts[0], counts)
    assert found.zero[0] == 2 and found.not_finite[1] == 1
    logs = diagnostics.log_histogram({"a": values}, 5)["a"]
    moduli = np.abs(values[0, 1:])
    np.testing.assert_array_equal(logs.counts[0], np.histogram(moduli, logs.edges)[0])
    health = weights.health({"a": values}, 1)["a"]
    assert (health.size, health.nan, health.dead) == (20, 1, 0)
    finite = {"a": jnp.asarray(values[:, 2:])}
    ratios = diagnostics.update_ratios(finite, finite)
    np.testing.assert_allclose(ratios["update_ratio_a"], 0.5, rtol=1e-6)


def test_surfaces_over_complex_parameters(x64):
    center = {"a": jnp.array([1 + 1j, 2.0])}
    directions = {"a": jnp.array([1j, 0])}, {"a": jnp.array([0, 1 - 1j])}

    def function(params):
        return (params["a"] * params["a"].conj()).real.sum()

    found = diagnostics.surface(function, center, directions, [0.0, 1.0], [0.0, 2.0])
    for j, y in enumerate((0, 2)):
        for i, x in enumerate((0, 1)):
            point = center["a"] + x * directions[0]["a"] + y * directions[1]["a"]
            size = np.linalg.norm(point)
            np.testing.assert_allclose(found.values[j, i], size**2)
            np.testing.assert_allclose(found.log_gradient_norm[j, i], np.log(2 * size))
    path = jax.tree.map(lambda c, d, e: jnp.stack([c, c + 3 * d - 2 * e]), center, *directions)
    path["a"] = path["a"].at[1, 0].add(4)  # off the plane
    projected = diagnostics.project_path(path, center, directions)
    np.testing.assert_allclose(projected.coordinates, [[0, 0], [3, -2]], atol=1e-12)
    np.testing.assert_allclose(projected.distance, [0, 4], atol=1e-12)
    (drawn,) = diagnostics.random_directions(KEY, center, 1)
    np.testing.assert_allclose(np.linalg.norm(drawn["a"]), np.linalg.norm(center["a"]))
