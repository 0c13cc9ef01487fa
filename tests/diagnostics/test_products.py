"""Factorisations and graded products against NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.diagnostics import products

EPS = {jnp.float32: 1.2e-7, jnp.float64: 2.3e-16}


def vectors(count, size, dtype, batch=(2,)):
    draw = np.random.default_rng(count).normal(size=(count, *batch, size))
    return jnp.asarray(draw, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    "count", [3, pytest.param(20, marks=pytest.mark.slow)]
)  # at once, and in blocks
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_factorisation_is_one(count, dtype, x64):
    v = vectors(count, 24, dtype)
    v = v.at[1].set(v[0] + 1e-4 * v[1]).at[2].set(0)  # nearly parallel, and nothing at all
    v = v * jnp.where(jnp.arange(count) == 0, 1e-25, 1e25).astype(dtype)[:, None, None]
    q, r = jax.jit(products.factorise)(v)
    _, growth = jax.jit(products.orthonormalise)(v)
    scale = np.abs(np.asarray(v, float)).max(-1)
    again = np.einsum("kbn,bkj->jbn", np.asarray(q, float), np.asarray(r, float))
    again, want = again / np.maximum(scale, 1e-30)[..., None], np.asarray(v, float)
    want = want / np.maximum(scale, 1e-30)[..., None]
    np.testing.assert_allclose(again, want, atol=60 * EPS[dtype])
    gram = np.einsum("ibn,jbn->bij", q, q)
    alive = np.ones(count)
    alive[2] = 0
    np.testing.assert_allclose(
        gram, np.broadcast_to(np.diag(alive), gram.shape), atol=20 * EPS[dtype]
    )
    assert (np.tril(r, -1) == 0).all() and (growth[:, 2] == 0).all()
    np.testing.assert_allclose(growth, np.diagonal(r, axis1=1, axis2=2), rtol=1e-3)
    assert (np.asarray(growth)[:, alive > 0] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 20])
def test_a_vector_that_depends_on_others_is_zero_and_not_noise(count):
    v = vectors(count, 24, jnp.float32)
    v = v.at[-1].set(v[0] + 2 * v[1] - v[2])
    q, growth = products.orthonormalise(v)
    assert (growth[:, -1] == 0).all() and (q[-1] == 0).all()
    assert (growth[:, :-1] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_singular_values_are_those_of_numpy(size, x64):
    matrix = np.random.default_rng(size).normal(size=(2, 3, size, size))
    r = np.linalg.qr(matrix)[1]
    graded = products.multiply(jnp.asarray(r), products.identity((2, 3), size, jnp.float64))
    found = products.log_singular_values(graded)
    want = np.log(np.linalg.svd(matrix, compute_uv=False))
    np.testing.assert_allclose(found, want, atol=1e-12)


def test_graded_matrices_keep_their_small_singular_values(x64):
    """diag(e^l) Q has the singular values e^l, however far apart they are."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    logs = np.array([-2000.0, 3.0, -300.0, 1500.0, 0.0, -0.5])
    graded = products.Graded(jnp.asarray(logs), jnp.asarray(q), jnp.zeros(6))
    found = products.log_singular_values(graded)
    np.testing.assert_allclose(found, np.sort(logs)[::-1], atol=1e-9)
    dead = graded._replace(rows=graded.rows.at[1].set(0))
    assert products.log_singular_values(dead)[-1] == -np.inf


def test_thousands_of_products_do_not_drift():
    """10,000 equal factors in float32: the logarithm is right to its last digits."""
    r = jnp.diag(jnp.array([0.9, 0.7, 0.3]))
    graded = jax.lax.fori_loop(
        0, 10_000, lambda _, m: products.multiply(r, m), products.identity((), 3, jnp.float32)
    )
    want = 10_000 * np.log(np.array([0.9, 0.7, 0.3], np.float32).astype(float))
    np.testing.assert_allclose(products.log_singular_values(graded), want, rtol=2e-6)
