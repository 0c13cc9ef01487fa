"""The LSTM with projections: closed forms, its gradients on the fast and the plain path, errors.

`tests/interop/test_pytorch.py` compares it with PyTorch.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax import LSTM, diagnostics
from rnnjax.cells import (
    LSTMP,
    GatedParams,
    LayerNorm,
    LSTMCarry,
    LSTMPCarry,
    LSTMPParams,
    Zoneout,
)
from rnnjax.cells.initializers import Chrono, Identity, Orthogonal
from rnnjax.recurrence.fast import served
from rnnjax.testing import check_cell

T, B, D, H, P = 7, 2, 3, 5, 2
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Plain(LSTMP):
    """The same cell, which takes the plain scan because it has a step of its own."""

    def step(self, ready, carry, u):
        return self.gates(self.elementwise(ready), carry, u, self.recur(ready, carry, u))


def drawn(cell, dtype=jnp.float64):
    """Parameters with noise on every entry, inputs and a carry."""
    keys = iter(jax.random.split(KEY, 9))

    def noisy(leaf):
        return leaf + 0.2 * jax.random.normal(next(keys), leaf.shape, dtype)

    params = jax.tree.map(noisy, cell.init(KEY, D))
    xs = jax.random.normal(next(keys), (T, B, D), dtype)
    return params, xs, jax.tree.map(noisy, cell.initial_carry((B,)))


def results(cell, params, xs, carry, **options):
    """Final carry, outputs and all gradients of a sum in which every entry has its own weight."""

    @jax.jit
    def run(params, xs, carry):
        def loss(*args):
            found = rnnjax.unroll(cell, *args, **options)
            flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(found)])
            return jnp.sum(flat * jnp.cos(jnp.arange(flat.size))), found

        return jax.grad(loss, (0, 1, 2), has_aux=True)(params, xs, carry)

    return run(params, xs, carry)


@pytest.mark.slow
def test_with_a_projection_of_one_it_is_the_lstm(x64):
    square = LSTMP(H, H, param_dtype=jnp.float64)
    params, xs, carry = drawn(square)
    params = params._replace(projection_kernel=jnp.eye(H))
    lstm = LSTM(H, param_dtype=jnp.float64)
    (grads, *rest), found = results(square, params, xs, carry)
    (want, *want_rest), want_found = results(lstm, GatedParams(*params[:3]), xs, LSTMCarry(*carry))
    assert oracles.relative_error(found, want_found) < 1e-14
    assert oracles.relative_error(grads[:3], tuple(want)) < 1e-13
    assert oracles.relative_error(rest, want_rest) < 1e-13


@pytest.mark.slow
def test_a_projection_folded_into_the_kernels_is_an_lstm(x64):
    """v = h U = m (R U), so an LSTM with kernel R U has the same c, and its m R is our h."""
    cell = LSTMP(H, P, param_dtype=jnp.float64)
    params, xs, _ = drawn(cell)
    final, outputs = rnnjax.unroll(cell, params, xs)
    folded = params.projection_kernel @ params.recurrent_kernel
    lstm = GatedParams(params.input_kernel, folded, params.bias)
    want, hidden = rnnjax.unroll(LSTM(H, param_dtype=jnp.float64), lstm, xs)
    assert outputs.shape == (T, B, P)
    assert oracles.relative_error(final.c, want.c) < 1e-14
    assert oracles.relative_error(outputs, hidden @ params.projection_kernel) < 1e-14


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    slow_but_for(
        "padding",
        {
            "padding": {"seq_lengths": np.array([4, 7])},
            "plain": {},
            "lean": {"checkpoint_every": 1},
            "clipped": {"clip_adjoints": 0.5, "reverse": True},
        },
    ),
)
def test_the_fast_backward_equals_the_plain_one(options, x64):
    cell = LSTMP(H, P, param_dtype=jnp.float64)
    given = drawn(cell)
    plain = Plain(H, P, param_dtype=jnp.float64)
    got, want = results(cell, *given, **options), results(plain, *given, **options)
    assert oracles.relative_error(got, want) < 1e-13


@pytest.mark.slow
def test_it_takes_the_fast_path():
    params, xs, carry = drawn(LSTMP(H, P), jnp.float32)
    assert served(LSTMP(H, P), params, carry, xs)
    assert not served(Plain(H, P), params, carry, xs)


def test_init_draws_what_the_docstring_says():
    params = LSTMP(16, 4, forget_bias=3.0).init(KEY, D)
    shapes = [leaf.shape for leaf in params]
    assert shapes == [(D, 64), (4, 64), (64,), (16, 4)]
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 3.0, 0.0, 0.0], 16))
    project = np.asarray(params.projection_kernel)
    np.testing.assert_allclose(project.T @ project, np.eye(4), atol=1e-6)
    for block in np.split(np.asarray(params.recurrent_kernel), 4, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-6)
    i, f, *_ = np.split(LSTMP(16, 4, forget_bias=Chrono(9.0)).init(KEY, D).bias, 4)
    assert (f > 0).all()
    np.testing.assert_array_equal(i, -f)


def test_parameter_count_is_that_of_the_paper():
    """Sak et al.: with P = H / 4 the recurrent weights are 5/16 of an LSTM's."""
    params = LSTMP(16, 4).init(KEY, D)
    recurrent = params.recurrent_kernel.size + params.projection_kernel.size
    assert 16 * recurrent == 5 * LSTM(16).init(KEY, D).recurrent_kernel.size


def test_cells_that_differ_in_initialisers_share_a_program():
    cell = LSTMP(H, P, projection_kernel_init=Identity(), recurrent_kernel_init=Orthogonal(2.0))
    assert cell.without_initialisers() == LSTMP(H, P)
    assert cell.output_size == P


@pytest.mark.parametrize("size", [0, -1, True])
def test_a_projection_of_no_size_is_refused(size):
    with pytest.raises(ValueError, match="proj_size must be a positive integer, got"):
        LSTMP(H, size)


@pytest.mark.slow
def test_jacobians_have_the_rank_that_the_docstring_says(x64):
    """d s' / d s has a part of rank P through h and, through c, the diagonal of forget gates."""
    cell = LSTMP(H, P, param_dtype=jnp.float64)
    params, xs, carry = drawn(cell)
    one = jax.tree.map(lambda a: a[0], carry)

    def step(h):
        return cell.step(params, LSTMPCarry(one.c, h), cell.project(params, xs[0, 0])).c

    assert np.linalg.matrix_rank(jax.jacobian(step)(one.h)) == P
    f = diagnostics.gates(cell, params, xs[:1], carry, names=["f"])["f"][0, 0]
    through_c = jax.jacobian(
        lambda c: cell.step(params, LSTMPCarry(c, one.h), cell.project(params, xs[0, 0])).c
    )(one.c)
    np.testing.assert_allclose(through_c, np.diag(f), rtol=1e-12)


@pytest.mark.slow
def test_the_gradient_profile_is_that_of_a_jacobian(x64):
    cell = LSTMP(H, P, param_dtype=jnp.float64)
    params, xs, carry = drawn(cell)
    profile = diagnostics.gradient_profile(cell, params, xs, lambda ys: (ys[-1] ** 2).sum(), carry)
    lag = 3

    def loss(start):
        return (rnnjax.unroll(cell, params, xs[T - lag :], start)[1][-1] ** 2).sum()

    start = rnnjax.unroll(cell, params, xs[: T - lag], carry)[0]
    gradient = jax.grad(loss)(start)
    want = np.log(np.sqrt(sum((g**2).sum(-1) for g in gradient)))
    np.testing.assert_allclose(profile.log_norms[lag - 1], want, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [LSTMP(5, 2), Zoneout(LayerNorm(LSTMP(4, 3)), LSTMPCarry(c=0.5, h=0.1))],
    ids=["alone", "wrapped"],
)
def test_it_passes_check_cell(cell):
    check_cell(cell, 3)


def test_its_parameters_are_a_named_tuple_of_four():
    assert LSTMPParams._fields == (*GatedParams._fields, "projection_kernel")
