"""Factorisations and their derivative against NumPy, finite differences and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.diagnostics import factorisation

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
    q, r = jax.jit(factorisation.factorise)(v)
    _, growth = jax.jit(factorisation.orthonormalise)(v)
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
    q, growth = factorisation.orthonormalise(v)
    assert (growth[:, -1] == 0).all() and (q[-1] == 0).all()
    assert (growth[:, :-1] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 20])  # at once, and in blocks
def test_the_derivative_of_a_factorisation_is_its_difference(count, x64):
    v, change = vectors(count, 24, jnp.float64), vectors(count + 1, 24, jnp.float64)[1:]
    factorise = jax.jit(factorisation.factorise)
    _, found = jax.jit(lambda v, change: jax.jvp(factorise, (v,), (change,)))(v, change)
    pull = jax.jit(lambda slopes: jax.vjp(factorise, v)[1](slopes)[0])

    def difference(h):
        ends = factorise(v + h * change), factorise(v - h * change)
        return [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]

    for a, coarse, fine in zip(found, difference(2e-4), difference(1e-4), strict=True):
        np.testing.assert_allclose(a, (4 * fine - coarse) / 3, atol=1e-8)
    q, r = found
    forward = jnp.sum(q * jnp.cos(q)) + jnp.sum(r * jnp.sin(r))
    backward = pull((jnp.cos(q), jnp.sin(r)))
    np.testing.assert_allclose(jnp.sum(backward * change), forward, rtol=1e-10)


@pytest.mark.slow
def test_vectors_that_are_zero_stay_so_in_the_derivative(x64):
    """Those before and after them have the derivatives that they have by themselves."""
    v, change = vectors(3, 6, jnp.float64), vectors(4, 6, jnp.float64)[1:]
    rest = jnp.array([0, 2])
    jvp = jax.jit(lambda v, change: jax.jvp(factorisation.factorise, (v,), (change,)))
    (q, r), (dq, dr) = jvp(v.at[1].set(0), change)
    _, (want_q, want_r) = jvp(v[rest], change[rest])
    assert (q[1] == 0).all() and (dq[1] == 0).all() and (r[:, 1, 1] == 0).all()
    np.testing.assert_allclose(dq[rest], want_q, atol=1e-12)
    np.testing.assert_allclose(dr[:, rest[:, None], rest], want_r, atol=1e-12)


def test_back_substitution_is_that_of_numpy(x64):
    rng = np.random.default_rng(0)
    r = np.triu(rng.normal(size=(2, 5, 5))) + 3 * np.eye(5)
    c = rng.normal(size=(2, 5, 3))
    found = factorisation.back_substitution(jnp.asarray(r), jnp.asarray(c))
    np.testing.assert_allclose(found, np.linalg.solve(r, c), atol=1e-12)
