"""The bistable recurrent cells: their equations in NumPy, bistability, slopes, and initialisation.

No oracle in another package: the authors' code is a Keras layer.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from paths import problem, unrolled, uses_fast_path, without_fast_path
from scipy.optimize import brentq
from slow import slow_but_for

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import BRC, NBRC, BRCParams
from rnnjax.cells.initializers import Identity, Uniform
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)
CELLS = {"brc": BRC, "nbrc": NBRC}


def by_hand(params, xs, h):
    """The paper's equations, one example and one unit at a time."""
    u_a, u_c = np.split(params.input_kernel, 2, axis=1)
    w_a, w_c = np.split(params.recurrent_kernel, 2, axis=-1)
    b_a, b_c = np.split(params.bias, 2)
    if w_a.ndim == 1:
        w_a, w_c = np.diag(w_a), np.diag(w_c)
    found = []
    for x in xs:
        after = np.zeros_like(h)
        for b in range(len(h)):
            for j in range(H):
                a = 1 + np.tanh(x[b] @ u_a[:, j] + h[b] @ w_a[:, j] + b_a[j])
                c = 1 / (1 + np.exp(-(x[b] @ u_c[:, j] + h[b] @ w_c[:, j] + b_c[j])))
                new = np.tanh(x[b] @ params.candidate_kernel[:, j] + a * h[b, j])
                after[b, j] = c * h[b, j] + (1 - c) * new
        h = after
        found.append(h)
    return np.stack(found)


def with_gates(cell, a, c):
    """Parameters with which the gates are constant, `1 + tanh(b_a) = a` and `s(b_c) = c`."""
    zeros = jax.tree.map(jnp.zeros_like, cell.init(KEY, D))
    bias = np.repeat([np.arctanh(a - 1), np.log(c / (1 - c))], H)
    return zeros._replace(bias=jnp.asarray(bias))


@pytest.mark.parametrize("name", CELLS)
def test_values_are_those_of_the_papers_equations(name, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)
    final, ys = rnnjax.unroll(cell, params, xs, carry)
    want = by_hand(jax.tree.map(np.asarray, params), np.asarray(xs), np.asarray(carry.h))
    np.testing.assert_allclose(ys, want, rtol=1e-12)
    np.testing.assert_array_equal(final.h, ys[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("a", "stable"), [(0.9, 1), (1.6, 2)])
def test_it_is_bistable_if_and_only_if_a_exceeds_one(name, a, stable, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    start = cell.initial_carry(())._replace(h=jnp.array([-1.0, -1e-3, 0.0, 1e-3, 1.0]))
    final = rnnjax.unroll(cell, with_gates(cell, a, 0.3), jnp.zeros((400, D)), start)[0]
    point = brentq(lambda h: np.tanh(a * h) - h, 0.1, 1) if stable == 2 else 0.0
    want = point * np.sign(start.h)
    np.testing.assert_allclose(final.h, want, atol=1e-12)
    assert len(set(np.round(want[want != 0], 9))) == (2 if stable == 2 else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but_for("brc", [*CELLS]))
def test_slopes_at_the_origin_and_at_a_stable_state(name, x64):
    """d h' / d h = c + (1 - c) a (1 - tanh(a h)^2), and over k steps its power."""
    a, c = 1.6, 0.3
    cell = CELLS[name](H, param_dtype=jnp.float64)
    params, xs = with_gates(cell, a, c), jnp.zeros((T, D))
    point = brentq(lambda h: np.tanh(a * h) - h, 0.1, 1)
    start = jnp.array([0.0, point, -point, 0.0, point])
    slopes = c + (1 - c) * a * (1 - np.square(start))
    assert ((slopes > 1) == (start == 0)).all()
    carry = cell.initial_carry(())._replace(h=start)
    adjoints = diagnostics.adjoints(cell, params, xs, lambda ys: ys[-1].sum(), carry)
    want = slopes ** np.arange(T, 0, -1)[:, None]
    np.testing.assert_allclose(adjoints.h, want, rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_units_are_connected_through_the_gates_of_an_nbrc_alone(name, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)
    u, h = cell.project(params, xs[0, 0]), carry.h[0]
    jacobian = jax.jacfwd(lambda h: cell.step(params, carry._replace(h=h), u).h)(h)
    others = np.asarray(jacobian)[~np.eye(H, dtype=bool)]
    assert others.any() == (name == "nbrc")


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_the_fast_backward_equals_the_plain_one(name, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    given = problem(cell)
    assert uses_fast_path(cell, *given)
    plain = unrolled(without_fast_path(cell))(*given)
    assert oracles.relative_error(unrolled(cell)(*given), plain) < 1e-12


@pytest.mark.slow
def test_gates_are_found_by_name():
    cell = BRC(H)
    found = diagnostics.gates(cell, with_gates(cell, 1.6, 0.3), jnp.ones((T, B, D)))
    assert set(found) == {"a", "c"}
    np.testing.assert_allclose(found["a"], 1.6, rtol=1e-6)
    np.testing.assert_allclose(found["c"], 0.3, rtol=1e-6)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = BRC(D, candidate_kernel_init=Identity(2.0)).init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 2 * D), (2 * D,), (2 * D,), (D, D)]
    np.testing.assert_array_equal(params.recurrent_kernel, np.ones(2 * D))
    np.testing.assert_array_equal(params.bias, np.zeros(2 * D))
    np.testing.assert_array_equal(params.candidate_kernel, 2 * np.eye(D))
    both = BRC(H, recurrent_kernel_init=(Uniform(0.0), Uniform(0.5))).init(KEY, D)
    w_a, w_c = np.split(both.recurrent_kernel, 2)
    assert not w_a.any() and np.unique(w_c).size == H and (np.abs(w_c) <= 0.5).all()
    dense = NBRC(H).init(KEY, D)
    drawn = np.concatenate([dense.input_kernel, dense.candidate_kernel], axis=1)
    assert np.unique(drawn).size == drawn.size
    assert isinstance(dense, BRCParams)
    for block in np.split(np.asarray(dense.recurrent_kernel), 2, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_a_fresh_initialiser_is_not_compiled_again(name):
    cell = CELLS[name](H, candidate_kernel_init=Uniform(0.3), recurrent_kernel_init=Uniform(0.1))
    assert cell.without_initialisers() == CELLS[name](H)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        BRC(0)
    with pytest.raises(ValueError, match="kernel_init must be one initialiser or 2, .* a, c; got"):
        NBRC(H, kernel_init=(Uniform(),) * 3)
    cell = BRC(H)
    with pytest.raises(ValueError, match="inputs must have 3 features"):
        rnnjax.unroll(cell, cell.init(KEY, D), jnp.zeros((T, B, D + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_it_passes_check_cell(name):
    check_cell(CELLS[name](H), D)
