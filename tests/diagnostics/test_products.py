"""Graded products against NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.diagnostics import products


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
