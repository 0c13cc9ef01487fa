"""DeltaNet and Gated DeltaNet: their equations in NumPy, what they store, and their eigenvalues.

The package `fla-core` has the same recurrences in PyTorch (`fla/ops/*/naive.py`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from paths import problem
from slow import slow_but_for

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import DeltaNet, GatedDeltaNet, identity
from rnnjax.cells.delta_net import unit
from rnnjax.cells.initializers import Identity
from rnnjax.testing import check_cell

T, B, D, H, N, K = 7, 2, 3, 6, 2, 4
KEY = jax.random.key(0)
CELLS: dict[str, Any] = {"delta": DeltaNet, "gated": GatedDeltaNet}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(cell, params, xs, carry):
    """The papers' equations, one example and one head at a time: every S and every output."""
    params = jax.tree.map(np.asarray, params)
    matrices = np.array(carry.S)
    states, outputs = [], []
    for x in np.asarray(xs):
        y = np.zeros((B, H))
        for b in range(B):
            q, k, v = (
                (x[b] @ kernel * sigmoid(x[b] @ kernel)).reshape(N, -1)
                for kernel in (params.query_kernel, params.key_kernel, params.value_kernel)
            )
            for n in range(N):
                unit_k, unit_q = k[n] / np.linalg.norm(k[n]), q[n] / np.linalg.norm(q[n])
                net = x[b] @ params.beta_kernel[:, n] + params.beta_bias[n]
                beta, alpha = cell.max_beta * sigmoid(net), 1.0
                if isinstance(cell, GatedDeltaNet):
                    net = x[b] @ params.alpha_kernel[:, n] + params.dt_bias[n]
                    alpha = np.exp(-np.exp(params.a_log[n]) * np.log(1 + np.exp(net)))
                keeps = alpha * (np.eye(K) - beta * np.outer(unit_k, unit_k))
                matrices[b, n] = matrices[b, n] @ keeps + beta * np.outer(v[n], unit_k)
                y[b, n * H // N : (n + 1) * H // N] = matrices[b, n] @ unit_q
        states.append(matrices.copy())
        outputs.append(y)
    return np.stack(states), np.stack(outputs)


def with_beta_one(cell):
    """Parameters with which beta = 2 s(0) = 1, whatever the input."""
    params = cell.init(KEY, D)
    return params._replace(beta_kernel=jnp.zeros_like(params.beta_kernel))


def one_step(cell, params, key=KEY):
    """Return u for a random input, and a random carry."""
    x = jax.random.normal(key, (D,))
    carry = jax.tree.map(lambda c: jax.random.normal(key, c.shape), cell.initial_carry(()))
    return cell.project(params, x), carry


@pytest.mark.parametrize("name", CELLS)
def test_values_are_those_of_the_papers_equations(name, x64):
    cell = CELLS[name](H, num_heads=N, key_size=K, max_beta=1.7, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)
    _, ys, carries = rnnjax.unroll(cell, params, xs, carry, return_carries=True)
    states, outputs = by_hand(cell, params, xs, carry)
    np.testing.assert_allclose(carries.S, states, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ys, outputs, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("gated", [*CELLS]))
def test_with_beta_one_the_value_of_the_key_is_stored_exactly(name, x64):
    cell = CELLS[name](H, num_heads=N, key_size=K, param_dtype=jnp.float64)
    params = with_beta_one(cell)
    u, carry = one_step(cell, params)
    delta = u[0] if name == "gated" else u
    after = cell.step(params, carry, u)
    found = np.einsum("nvk,nk->nv", after.S, delta.k)
    np.testing.assert_allclose(found, delta.v, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(delta.k, axis=-1), 1, rtol=1e-14)
    asked = cell.output(after._replace(q=delta.k))
    np.testing.assert_allclose(asked, np.ravel(delta.v), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("gated", [*CELLS]))
@pytest.mark.parametrize("max_beta", slow_but_for("two", {"one": 1.0, "two": 2.0}))
def test_eigenvalues_along_the_key_and_across(name, max_beta, x64):
    """d S' / d S on a row: alpha (1 - beta) along k, alpha across; negative for beta above 1."""
    cell = CELLS[name](3, key_size=K, max_beta=max_beta, param_dtype=jnp.float64)
    params = cell.init(KEY, D)._replace(beta_bias=jnp.array([2.0]))
    u, carry = one_step(cell, params)
    delta, alpha = (u[0], u[1][0]) if name == "gated" else (u, 1.0)
    k, beta = delta.k[0], delta.beta[0]
    step = jax.jit(jax.jacfwd(lambda S: cell.step(params, carry._replace(S=S), u).S))
    jacobian = np.asarray(step(carry.S))[0, :, :, 0]
    for row in range(3):
        for other in range(3):
            if row != other:
                assert not jacobian[row, :, other].any()
        block = jacobian[row, :, row]
        eigenvalues, vectors = np.linalg.eigh((block + block.T) / 2)
        np.testing.assert_allclose(block, block.T, atol=1e-15)
        want = np.sort([alpha * (1 - beta), *[alpha] * (K - 1)])
        np.testing.assert_allclose(eigenvalues, want, rtol=1e-12)
        np.testing.assert_allclose(np.abs(vectors[:, 0] @ k), 1, rtol=1e-12)
    assert (1 - beta < 0) == (max_beta == 2)
    assert name == "delta" or 0 < alpha < 1


@pytest.mark.slow
def test_the_gradient_at_a_key_that_is_not_written_again_does_not_decay(x64):
    """Keys e_1 (once) and e_2 (at all later steps): at every lag the adjoint along e_1 is the same.

    With v = 0 and beta = 1 the other is erased at once.
    """
    cell = DeltaNet(2, activation_fn=identity, param_dtype=jnp.float64)
    params = with_beta_one(cell)._replace(
        query_kernel=jnp.ones((D, 2)), key_kernel=jnp.eye(D, 2), value_kernel=jnp.zeros((D, 2))
    )
    xs = jnp.eye(D)[jnp.array([0, 1, 1, 1, 1])]
    adjoint = diagnostics.adjoints(cell, params, xs, lambda ys: ys[-1].sum()).S[:, 0]
    along_e1 = np.full((4, 2), 0.5**0.5)
    np.testing.assert_allclose(adjoint[1:, :, 0], along_e1, rtol=1e-12)
    np.testing.assert_allclose(adjoint[1:, :, 1], 0, atol=1e-14)
    np.testing.assert_allclose(adjoint[0], 0, atol=1e-14)


@pytest.mark.slow
def test_beta_of_two_reflects():
    cell = DeltaNet(2, activation_fn=identity)
    params = cell.init(KEY, D)._replace(
        key_kernel=jnp.eye(D, 2), value_kernel=jnp.zeros((D, 2)), beta_bias=jnp.array([50.0])
    )
    params = params._replace(beta_kernel=jnp.zeros((D, 1)))
    start = cell.initial_carry(())._replace(S=jnp.ones((1, 2, 2)))
    carries = rnnjax.unroll(cell, params, jnp.eye(D)[jnp.zeros(5, int)], start, return_carries=True)
    signs = (-1.0) ** np.arange(1, 6)
    np.testing.assert_array_equal(carries[2].S[:, 0, 0], np.stack([signs, np.ones(5)], axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("gated", [*CELLS]))
def test_gradients_are_finite_where_keys_and_queries_vanish(name):
    cell = CELLS[name](H, num_heads=N)
    params = cell.init(KEY, D)

    @jax.jit
    @jax.value_and_grad
    def loss(given):
        return (rnnjax.unroll(cell, *given)[1] ** 2).sum()

    start = cell.initial_carry(())._replace(S=jnp.ones((N, 3, 3)))
    found = loss((params, jnp.zeros((3, D)), start))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.slow
def test_unit_has_length_one_and_a_finite_gradient_at_zero(x64):
    x = jnp.array([[3.0, 4.0], [3e-3, -4e-3], [0.0, 0.0]])
    np.testing.assert_allclose(unit(x), [[0.6, 0.8], [0.6, -0.8], [0, 0]], rtol=1e-15)
    gradient = jax.grad(lambda x: unit(x)[:, 0].sum())(x)
    np.testing.assert_allclose(gradient[0], [(1 - 0.36) / 5, -0.48 / 5], rtol=1e-12)
    np.testing.assert_allclose(gradient[2], [1000, 0], rtol=1e-12)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = DeltaNet(H, num_heads=N, key_size=K, kernel_init=Identity())
    params = cell.init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 8), (D, 8), (D, 6), (D, 2), (2,)]
    np.testing.assert_array_equal(params.value_kernel, np.eye(D, H))
    assert cell.without_initialisers() == DeltaNet(H, num_heads=N, key_size=K)
    shapes = [leaf.shape for leaf in cell.initial_carry((B,))]
    assert shapes == [(B, N, 3, K), (B, N, K)] and cell.output_size == H
    many = GatedDeltaNet(1000, num_heads=1000, key_size=1).init(KEY, 1)
    a, dt = np.exp(many.a_log), np.log1p(np.exp(np.asarray(many.dt_bias, np.float64)))
    assert (a > 0).all() and (a <= 16 + 1e-5).all() and abs(a.mean() - 8) < 0.5
    assert (dt > 1e-3 - 1e-8).all() and (dt < 0.1 + 1e-6).all()
    assert abs(np.log(dt).mean() - np.log(0.01)) < 0.1
    assert many.alpha_kernel.shape == (1, 1000) and not many.beta_bias.any()
    kernels = [np.asarray(kernel) for kernel in (*many[:4], many.alpha_kernel)]
    assert len({kernel.tobytes() for kernel in kernels}) == 5


@pytest.mark.slow
def test_gates_are_found_by_name():
    cell = GatedDeltaNet(H, num_heads=N)
    params = with_beta_one(cell)
    found = diagnostics.gates(cell, params, jnp.ones((T, B, D)))
    assert {gate: values.shape for gate, values in found.items()} == {
        "alpha": (T, B, N),
        "beta": (T, B, N),
    }
    np.testing.assert_array_equal(found["beta"], 1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        DeltaNet(0)
    with pytest.raises(ValueError, match="features must be a multiple of num_heads = 4, got 6"):
        GatedDeltaNet(6, num_heads=4)
    with pytest.raises(ValueError, match="key_size must be a positive integer, got 0"):
        DeltaNet(6, key_size=0)
    for wrong in (0.0, -1.0, 2.1, float("nan")):
        with pytest.raises(ValueError, match="max_beta must be above 0 and at most 2, got"):
            DeltaNet(6, max_beta=wrong)
    cell = DeltaNet(H)
    with pytest.raises(ValueError, match="inputs must have 3 features"):
        rnnjax.unroll(cell, cell.init(KEY, D), jnp.zeros((T, B, D + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_the_papers_equations(name, x64):
    """The derivative of a function written with S (I - beta k k^T) and normalised keys."""
    cell = CELLS[name](H, num_heads=N, key_size=K, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)

    def outputs(params):
        S, ys = carry.S, []
        for x in xs:
            heads = [
                jax.nn.silu(x @ kernel).reshape(B, N, -1)
                for kernel in (params.query_kernel, params.key_kernel, params.value_kernel)
            ]
            q, k = (a / jnp.linalg.norm(a, axis=-1, keepdims=True) for a in heads[:2])
            beta = 2 * jax.nn.sigmoid(x @ params.beta_kernel + params.beta_bias)[..., None, None]
            if name == "gated":
                dt = jnp.log(1 + jnp.exp(x @ params.alpha_kernel + params.dt_bias))
                S = S * jnp.exp(-jnp.exp(params.a_log) * dt)[..., None, None]
            outer = k[..., :, None] * k[..., None, :]
            S = S @ (jnp.eye(K) - beta * outer) + beta * heads[2][..., None] * k[..., None, :]
            ys.append((S @ q[..., None])[..., 0].reshape(B, H))
        return jnp.stack(ys)

    def loss(run):
        return jax.jit(jax.grad(lambda params: jnp.sum(jnp.cos(run(params)))))

    got = loss(lambda params: rnnjax.unroll(cell, params, xs, carry)[1])(params)
    assert oracles.relative_error(got, loss(outputs)(params)) < 1e-10


@pytest.mark.slow
def test_the_gated_one_passes_check_cell():
    """The other is this one with alpha = 1."""
    check_cell(GatedDeltaNet(4, num_heads=2, key_size=3), D)
