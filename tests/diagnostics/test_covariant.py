"""Covariant Lyapunov vectors: mapped into one another, eigenvectors, and those of clvlib."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peer_fixtures import FIXTURES
from slow import slow_but_for

from rnnjax import GRU, LSTM, Cell, Elman
from rnnjax.cells import identity
from rnnjax.cells.initializers import Orthogonal
from rnnjax.diagnostics import covariant_lyapunov_vectors, jacobians, lyapunov_spectrum

KEY = jax.random.key(0)
T, B, D = 90, 2, 3


@dataclasses.dataclass(frozen=True)
class Whirl(Cell):
    """z' = z U / (1 + c |z|^2) + x W for complex z: linear for c = 0, else not holomorphic."""

    features: int
    c: float = 0.5

    def init(self, key: Any, input_size: int) -> Any:
        shapes = {"U": (self.features, self.features), "W": (input_size, self.features)}
        return {k: 0.6 * jax.random.normal(key, s, jnp.complex128) for k, s in shapes.items()}

    def initial_carry(self, batch_shape: Any) -> Any:
        return jnp.zeros((*batch_shape, self.features), jnp.complex128)

    def project(self, params: Any, x: Any) -> Any:
        return x @ params["W"]

    def step(self, params: Any, carry: Any, u: Any) -> Any:
        return carry @ params["U"] / (1 + self.c * (carry * carry.conj()).real) + u

    def output(self, carry: Any) -> Any:
        return carry.real


CELLS = {"elman": Elman(5), "lstm": LSTM(3), "gru": GRU(5), "complex": Whirl(3)}


def problem(cell):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: cell.init(KEY, D))
    params = jax.tree.map(lambda s: jnp.asarray(0.6 * rng.normal(size=s.shape)), shapes)
    return params, jnp.asarray(rng.normal(size=(T, B, D)))


@pytest.mark.parametrize("cell", slow_but_for("lstm", CELLS))
def test_each_step_maps_the_vectors_into_the_next(cell, x64):
    params, xs = problem(cell)
    found = covariant_lyapunov_vectors(cell, params, xs, transient=30, backward_transient=20)
    assert (found.times == np.arange(30, 70)).all()
    matrices = np.asarray(jacobians(cell, params, xs))[30:70]
    size = matrices.shape[-1]
    assert found.vectors.shape == (40, B, size, size) and found.vectors.dtype == jnp.float64
    moved = matrices @ np.asarray(found.vectors)
    length = np.linalg.norm(moved, axis=-2)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=-2), 1, rtol=1e-12)
    np.testing.assert_allclose(np.log(length), found.log_growth, atol=1e-8)
    unit = moved / length[..., None, :]
    np.testing.assert_allclose(unit[:-1], found.vectors[1:], atol=1e-8)
    np.testing.assert_allclose(found.exponents, found.log_growth.mean(0), rtol=1e-12)
    # Volumes grow as their sides and the angles between these do.
    sides = np.linalg.slogdet(np.asarray(found.vectors))[1]
    volumes = np.linalg.slogdet(matrices)[1][:-1]
    change = sides[1:] - sides[:-1] + np.asarray(found.log_growth)[:-1].sum(-1)
    np.testing.assert_allclose(change, volumes, atol=1e-8)


@pytest.mark.slow
def test_those_of_a_constant_jacobian_are_its_eigenvectors(x64):
    values = np.array([1.1, -0.8, 0.5, 0.3, -0.1])
    axes = np.random.default_rng(3).normal(size=(5, 5))
    axes /= np.linalg.norm(axes, axis=0)
    J = axes @ np.diag(values) @ np.linalg.inv(axes)
    cell = Elman(5, activation_fn=identity, param_dtype=jnp.float64)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, 1))._replace(
        recurrent_kernel=jnp.asarray(J.T)
    )
    found = covariant_lyapunov_vectors(cell, params, jnp.zeros((150, 1)), transient=70)
    assert (found.times == np.arange(70, 80)).all()
    cosine = np.sum(np.asarray(found.vectors) * axes, axis=-2)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-9)
    np.testing.assert_allclose(found.log_growth, np.log(np.abs(values))[None] + np.zeros((10, 1)))


@pytest.mark.slow
def test_a_complex_state_has_two_vectors_for_each_eigenvector(x64):
    cell = Whirl(3, c=0.0)
    U = np.array([[0.9j, 0.3, 0], [0.1, -0.4, 0.2j], [0, 0.1, 0.1]])
    params = {"U": jnp.asarray(U), "W": jnp.zeros((1, 3), complex)}
    found = covariant_lyapunov_vectors(cell, params, jnp.zeros((400, 1)), transient=190)
    values, axes = np.linalg.eig(U.T)
    order = np.argsort(-np.abs(values))
    want = np.repeat(np.log(np.abs(values[order])), 2)
    np.testing.assert_allclose(found.exponents[::2] + found.exponents[1::2], 2 * want[::2])
    vectors = np.asarray(found.vectors[0])
    z = vectors[::2] + 1j * vectors[1::2]  # [entries, vectors]
    cosine = np.abs(np.sum(z * np.repeat(axes[:, order], 2, axis=1).conj(), axis=0))
    np.testing.assert_allclose(cosine, 1, atol=1e-8)


@pytest.mark.slow
def test_the_vectors_of_clvlib(x64):
    with np.load(FIXTURES / "clvlib.npz") as file:
        peer = dict(file)
    cell = Elman(5, param_dtype=jnp.float64)
    params = cell.init(KEY, 3)
    params = params._replace(
        input_kernel=jnp.asarray(peer["W"]), recurrent_kernel=jnp.asarray(peer["U"])
    )
    found = covariant_lyapunov_vectors(cell, params, jnp.asarray(peer["xs"]), transient=220)
    vectors = np.asarray(found.vectors)[peer["times"] - 220]
    cosine = np.sum(vectors * peer["vectors"], axis=-2, keepdims=True)
    np.testing.assert_allclose(vectors * np.sign(cosine), peer["vectors"], atol=1e-8)
    assert peer["residual"] > 0.5  # what that package's own alignment gives


@pytest.mark.slow
def test_the_first_few_are_those_of_all_and_grow_at_the_exponents(x64):
    cell = CELLS["elman"]
    params, xs = problem(cell)
    every = covariant_lyapunov_vectors(cell, params, xs, transient=40)
    some = covariant_lyapunov_vectors(cell, params, xs, 2, transient=40)
    sign = np.sign(np.sum(np.asarray(some.vectors) * every.vectors[..., :2], -2, keepdims=True))
    # The frames differ at first, and forget it at the rate of the gaps between exponents.
    np.testing.assert_allclose(some.vectors * sign, every.vectors[..., :2], atol=1e-4)
    long = jnp.concatenate([xs] * 20)
    vectors = covariant_lyapunov_vectors(cell, params, long, transient=40)
    spectrum = lyapunov_spectrum(cell, params, long[:-40], transient=40)  # the same steps
    np.testing.assert_allclose(vectors.exponents[:, 0], spectrum.exponents[:, 0], rtol=1e-9)
    np.testing.assert_allclose(vectors.exponents, spectrum.exponents, atol=5e-3)


def test_wrong_arguments_are_named():
    cell = Elman(3)
    params, xs = cell.init(KEY, D), jnp.ones((7, D))
    with pytest.raises(ValueError, match=r"num must lie in 1..N = 1..3 .*got 4"):
        covariant_lyapunov_vectors(cell, params, xs, 4, transient=1)
    with pytest.raises(ValueError, match="the transients, 4 and 3 steps, .* T = 7; got 4"):
        covariant_lyapunov_vectors(cell, params, xs, transient=4, backward_transient=3)
    with pytest.raises(ValueError, match="backward_transient must be at least 0.*got -1"):
        covariant_lyapunov_vectors(cell, params, xs, transient=1, backward_transient=-1)
    with pytest.raises(FloatingPointError, match="the carry is not finite after step 2"):
        covariant_lyapunov_vectors(cell, params, xs.at[2].set(jnp.inf), transient=1)


@pytest.mark.slow
def test_a_direction_that_a_step_contracts_to_zero_has_no_vector():
    cell = Elman(3, activation_fn=jax.nn.relu, recurrent_kernel_init=Orthogonal(0.2))
    params = cell.init(KEY, D)._replace(bias=jnp.array([9.0, 9.0, -99.0]))  # one unit is dead
    xs = jax.random.normal(KEY, (60, D))
    with pytest.raises(ValueError, match="step 0 contracts direction 2 to zero.*num=2 leaves it"):
        covariant_lyapunov_vectors(cell, params, xs, transient=20)
    found = covariant_lyapunov_vectors(cell, params, xs, 2, transient=20)
    assert jnp.isfinite(found.vectors).all() and found.vectors.shape == (20, 3, 2)

    def last(xs):
        return covariant_lyapunov_vectors(cell, params, xs, transient=20).vectors[..., 2]

    assert jnp.isnan(jax.jit(last)(xs)).all()
