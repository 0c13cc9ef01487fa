"""LEM: its equations in NumPy, what of its gradient is bounded, and its second product."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import LEM, LEMCarry, LEMParams
from rnnjax.cells.initializers import Identity, Uniform
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Plain(LEM):
    """The same cell, which takes the plain scan because it has a step of its own."""

    def step(self, ready, carry, u):
        return self.gates(self.elementwise(ready), carry, u, self.recur(ready, carry, u))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def drawn(seed=0):
    """Parameters of random entries, inputs and a carry, in NumPy."""
    rng = np.random.default_rng(seed)
    shapes = (D, 3 * H), (H, 3 * H), (3 * H,), (D, H), (H, H), (H,)
    params = LEMParams(*(rng.normal(size=shape) for shape in shapes))
    carry = LEMCarry(*(rng.uniform(-1, 1, size=(B, H)) for _ in range(2)))
    return params, rng.normal(size=(T, B, D)), carry


def test_values_are_those_of_the_papers_equations(x64):
    params, xs, (y, z) = drawn()
    dt = 0.6
    v1, v2, vz = np.split(params.input_kernel.T, 3)
    w1, w2, wz = np.split(params.recurrent_kernel.T, 3)
    b1, b2, bz = np.split(params.bias, 3)
    vy, wy, by = params.y_input_kernel.T, params.y_recurrent_kernel.T, params.y_bias
    cell = LEM(H, dt=dt, param_dtype=jnp.float64)
    start = LEMCarry(jnp.asarray(y), jnp.asarray(z))
    final, ys = rnnjax.unroll(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), start)
    for x, got in zip(xs, ys, strict=True):
        for n in range(B):
            step = dt * sigmoid(w1 @ y[n] + v1 @ x[n] + b1)
            step_bar = dt * sigmoid(w2 @ y[n] + v2 @ x[n] + b2)
            z[n] = (1 - step) * z[n] + step * np.tanh(wz @ y[n] + vz @ x[n] + bz)
            y[n] = (1 - step_bar) * y[n] + step_bar * np.tanh(wy @ z[n] + vy @ x[n] + by)
        np.testing.assert_allclose(got, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(final.z, z, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_without_recurrent_weights_a_step_multiplies_by_what_its_step_sizes_leave(x64):
    dt = 0.6
    cell = LEM(H, dt=dt, param_dtype=jnp.float64)
    params, xs, carry = jax.tree.map(jnp.asarray, drawn())
    params = params._replace(
        recurrent_kernel=jnp.zeros((H, 3 * H)), y_recurrent_kernel=jnp.zeros((H, H))
    )
    one = jax.tree.map(lambda a: a[0], carry)
    steps = diagnostics.jacobians(cell, params, xs[:, 0], one)
    a = np.asarray(xs[:, 0] @ params.input_kernel + params.bias)
    leaves = 1 - dt * sigmoid(a)
    want = np.concatenate([leaves[:, H : 2 * H], leaves[:, :H]], axis=1)  # of y, of z
    np.testing.assert_allclose(steps, [np.diag(w) for w in want], rtol=1e-12, atol=1e-14)
    assert ((want > 1 - dt) & (want < 1)).all()
    gates = diagnostics.gates(cell, params, xs[:, 0], one)
    np.testing.assert_allclose(1 - dt * gates["delta"], want[:, H:], rtol=1e-12)
    np.testing.assert_allclose(1 - dt * gates["delta_bar"], want[:, :H], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dt", [1.0, 0.01])
def test_a_step_grows_the_gradient_by_the_order_of_dt(dt, x64):
    """max_i sum_j |J_ij| <= 1 + C dt, C of the columns of the weights, for states in [-1, 1]."""
    cell = LEM(H, dt=dt, param_dtype=jnp.float64)
    params, xs, carry = drawn()
    w1, w2, wz, wy = (
        np.abs(block).sum(0).max()
        for block in (*np.split(params.recurrent_kernel, 3, axis=1), params.y_recurrent_kernel)
    )
    of_z = w1 / 2 + wz
    of_y = w2 / 2 + wy * (1 + dt * of_z)
    arrays = jax.tree.map(jnp.asarray, (params, 5 * xs[:, 0], LEMCarry(carry.y[0], carry.z[0])))
    growth = np.abs(diagnostics.jacobians(cell, *arrays)).sum(-1)
    assert (growth[:, H:] <= 1 + dt * of_z).all() and (growth[:, :H] <= 1 + dt * of_y).all()
    final, ys = rnnjax.unroll(cell, *arrays)
    assert np.abs(ys).max() <= 1 and np.abs(final.z).max() <= 1


@pytest.mark.slow
def test_the_fast_backward_equals_the_plain_one(x64):
    params, xs, carry = jax.tree.map(jnp.asarray, drawn())
    found = []
    for kind in (LEM, Plain):
        cell = kind(H, dt=0.7, param_dtype=jnp.float64)
        assert served(cell, params, carry, xs) == (kind is LEM)

        def loss(*args, cell=cell):
            final, ys = rnnjax.unroll(cell, *args)
            leaves = jnp.concatenate([a.reshape(-1) for a in (*final, ys)])
            return jnp.sum(leaves * jnp.cos(jnp.arange(leaves.size)))

        found.append(jax.jit(jax.grad(loss, (0, 1, 2)))(params, xs, carry))
    assert oracles.relative_error(*found) < 1e-13


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = LEM(H).init(KEY, D)
    shapes = (D, 3 * H), (H, 3 * H), (3 * H,), (D, H), (H, H), (H,)
    assert tuple(leaf.shape for leaf in params) == shapes
    for block in (*np.split(params.recurrent_kernel, 3, axis=1), params.y_recurrent_kernel):
        np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-5)
    assert not params.bias.any() and not params.y_bias.any()
    cell = LEM(H, y_kernel_init=Identity(3.0), y_recurrent_kernel_init=Uniform(0.1))
    params = cell.init(KEY, D)
    np.testing.assert_array_equal(params.y_input_kernel, 3 * np.eye(D, H))
    assert 0 < np.abs(params.y_recurrent_kernel).max() <= 0.1
    assert cell.without_initialisers() == LEM(H)
    assert cell.output_size == H


def test_what_it_refuses():
    with pytest.raises(ValueError, match="dt must be positive, got -1"):
        LEM(H, dt=-1)
    with pytest.raises(ValueError, match="inputs must have 3 features"):
        LEM(H).project(LEM(H).init(KEY, D), jnp.zeros((B, D + 1)))


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(LEM(H, dt=0.8, dtype=jnp.bfloat16), D)
