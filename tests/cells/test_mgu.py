"""The MGU: its equations in NumPy, its Jacobian, and its second product."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import MGU, MGUCarry, MGUParams
from rnnjax.cells.initializers import Chrono, Identity, Uniform
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Plain(MGU):
    """The same cell, which takes the plain scan because it has a step of its own."""

    def step(self, ready, carry, u):
        return self.gates(self.elementwise(ready), carry, u, self.recur(ready, carry, u))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def drawn():
    """Parameters of random entries, inputs and a state, in NumPy."""
    rng = np.random.default_rng(0)
    shapes = (D, H), (H, H), (H,)
    params = MGUParams(*(rng.normal(size=shape) for shape in 2 * shapes))
    return params, rng.normal(size=(T, B, D)), rng.normal(size=(B, H))


def test_values_are_those_of_the_papers_equations(x64):
    """f = s(W_f [h, x] + b_f), h~ = tanh(W_h [f * h, x] + b_h), h' = (1 - f) h + f h~."""
    params, xs, h = drawn()
    wf = np.concatenate([params.recurrent_kernel.T, params.input_kernel.T], axis=1)
    wh = np.concatenate(
        [params.candidate_recurrent_kernel.T, params.candidate_input_kernel.T], axis=1
    )
    cell = MGU(H, param_dtype=jnp.float64)
    start = MGUCarry(jnp.asarray(h))
    _, ys = rnnjax.unroll(cell, jax.tree.map(jnp.asarray, params), jnp.asarray(xs), start)
    for x, y in zip(xs, ys, strict=True):
        for n in range(B):
            f = sigmoid(wf @ np.concatenate([h[n], x[n]]) + params.bias)
            candidate = wh @ np.concatenate([f * h[n], x[n]]) + params.candidate_bias
            h[n] = (1 - f) * h[n] + f * np.tanh(candidate)
        np.testing.assert_allclose(y, h, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_the_gate_acts_twice_on_the_path_through_the_kernel(x64):
    params, xs, h = drawn()
    params = params._replace(recurrent_kernel=np.zeros((H, H)))
    cell = MGU(H, param_dtype=jnp.float64)
    arrays = jax.tree.map(jnp.asarray, (params, xs[:, 0], MGUCarry(h[0])))
    steps = diagnostics.jacobians(cell, *arrays)
    states = np.concatenate([h[:1], rnnjax.unroll(cell, *arrays)[1][:-1]])
    f = sigmoid(xs[:, 0] @ params.input_kernel + params.bias)
    u = params.candidate_recurrent_kernel
    n = np.tanh(xs[:, 0] @ params.candidate_input_kernel + params.candidate_bias + (f * states) @ u)
    for t in range(T):
        # Its transpose multiplies the gradient.
        backward = np.diag(1 - f[t]) + np.diag(f[t]) @ u @ np.diag(1 - n[t] ** 2) @ np.diag(f[t])
        np.testing.assert_allclose(steps[t].T, backward, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(diagnostics.gates(cell, *arrays)["f"], f, rtol=1e-12)


@pytest.mark.slow
def test_without_weights_it_halves_at_every_step():
    cell = MGU(H)
    params = jax.tree.map(lambda p: jnp.zeros(p.shape), jax.eval_shape(lambda: cell.init(KEY, D)))
    profile = diagnostics.gradient_profile(
        cell, params, jnp.zeros((T, B, D)), lambda ys: ys[-1].sum()
    )
    want = np.log(np.sqrt(H)) - np.arange(1, T + 1) * np.log(2)
    np.testing.assert_allclose(profile.log_norms, np.stack([want] * B, 1), rtol=1e-5)


@pytest.mark.slow
def test_the_fast_backward_equals_the_plain_one(x64):
    params, xs, h = jax.tree.map(jnp.asarray, drawn())
    found = []
    for kind in (MGU, Plain):
        cell = kind(H, param_dtype=jnp.float64)
        assert served(cell, params, MGUCarry(h), xs) == (kind is MGU)

        def loss(*args, cell=cell):
            ys = rnnjax.unroll(cell, *args)[1]
            return jnp.sum(ys * jnp.cos(jnp.arange(ys.size).reshape(ys.shape)))

        found.append(jax.jit(jax.grad(loss, (0, 1, 2)))(params, xs, MGUCarry(h)))
    assert oracles.relative_error(*found) < 1e-13


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = MGU(H, forget_bias=1.5).init(KEY, D)
    shapes = (D, H), (H, H), (H,)
    assert tuple(leaf.shape for leaf in params) == 2 * shapes
    for kernel in (params.recurrent_kernel, params.candidate_recurrent_kernel):
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(H), atol=1e-5)
    assert np.abs(params.recurrent_kernel - params.candidate_recurrent_kernel).max() > 0.1
    assert np.abs(params.input_kernel - params.candidate_input_kernel).max() > 0.1
    np.testing.assert_array_equal(params.bias, -1.5)
    np.testing.assert_array_equal(params.candidate_bias, 0)
    cell = MGU(
        H,
        candidate_kernel_init=Identity(3.0),
        candidate_recurrent_kernel_init=Uniform(0.1),
        forget_bias=Chrono(20.0),
    )
    params = cell.init(KEY, D)
    np.testing.assert_array_equal(params.candidate_input_kernel, 3 * np.eye(D, H))
    assert 0 < np.abs(params.candidate_recurrent_kernel).max() <= 0.1
    kept = 1 - sigmoid(np.asarray(params.bias))
    assert np.all((kept >= 0.5) & (kept <= 1 - 1 / 20 + 1e-6))  # memories of 2 to 20 steps
    assert cell.without_initialisers() == MGU(H)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        MGU(0)
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        MGU(H).init(KEY, 0)


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(MGU(H), D)
