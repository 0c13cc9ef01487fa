"""ParaGRU and ParaLSTM: their equations in NumPy, and Jacobians of one number or 2 x 2 a unit.

The package `pararnn-torch` has the same cells in PyTorch (and clips w and p to [-0.5, 0.5]).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from paths import problem, unrolled, uses_fast_path, without_fast_path

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import ParaGRU, ParaLSTM
from rnnjax.cells.initializers import Chrono, Identity, Uniform
from rnnjax.testing import check_cell

T, B, D, H = 7, 2, 3, 5
KEY = jax.random.key(0)
CELLS: dict[str, Any] = {"gru": ParaGRU, "lstm": ParaLSTM}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(params, x, h):
    """Equations 3.1a with A = diag(a), z the update gate; and the derivative 3.2a by hand."""
    b_r, b_z, b_n = np.split(x @ params.input_kernel + params.bias, 3, axis=-1)
    a_r, a_z, a_n = np.split(params.recurrent_kernel, 3)
    r, z = sigmoid(a_r * h + b_r), sigmoid(a_z * h + b_z)
    n = np.tanh(a_n * (r * h) + b_n)
    inner = a_n * (r + r * (1 - r) * a_r * h)
    slope = 1 - z + z * (1 - z) * a_z * (n - h) + z * (1 - n**2) * inner
    return (1 - z) * h + z * n, slope


def lstm_step(params, x, c, h):
    """Equations 3.1b and 3.2b, A and C diagonal."""
    b_f, b_g, b_o = np.split(x @ params.input_kernel + params.bias, 3, axis=-1)
    a_f, a_g, a_o = np.split(params.recurrent_kernel, 3)
    c_f, c_o = np.split(params.peephole, 2)
    f, g = sigmoid(a_f * h + c_f * c + b_f), np.tanh(a_g * h + b_g)
    new = f * c + (1 - f) * g
    o, squashed = sigmoid(a_o * h + c_o * new + b_o), np.tanh(new)
    cc = f + (c - g) * f * (1 - f) * c_f
    ch = (c - g) * f * (1 - f) * a_f + (1 - f) * (1 - g**2) * a_g
    of_o, of_c = squashed * o * (1 - o), o * (1 - squashed**2)
    hc = (of_o * c_o + of_c) * cc
    hh = of_o * (a_o + c_o * ch) + of_c * ch
    return (new, o * squashed), np.array([[cc, ch], [hc, hh]])


STEPS: dict[str, Any] = {"gru": gru_step, "lstm": lstm_step}


@pytest.mark.parametrize("name", CELLS)
def test_values_are_those_of_the_papers_equations(name, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)
    final, ys = rnnjax.unroll(cell, params, xs, carry)
    weights, state, want = jax.tree.map(np.asarray, params), [np.asarray(c) for c in carry], []
    for x in np.asarray(xs):
        after, _ = STEPS[name](weights, x, *state)
        state = [after] if name == "gru" else list(after)
        want.append(state[-1])
    np.testing.assert_allclose(ys, np.stack(want), rtol=1e-12)
    assert oracles.relative_error(tuple(final), tuple(state)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_the_jacobian_is_that_of_the_paper_unit_by_unit(name, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)
    x, one = xs[0, 0], jax.tree.map(lambda c: c[0], carry)

    @jax.jit
    @jax.jacfwd
    def jacobian(carry):
        return cell.step(params, carry, cell.project(params, x))

    blocks = np.array([[np.asarray(block) for block in row] for row in jacobian(one)])
    assert not blocks[..., ~np.eye(H, dtype=bool)].any()  # exactly zero
    weights = jax.tree.map(np.asarray, params)
    _, want = STEPS[name](weights, np.asarray(x), *map(np.asarray, one))
    found = np.diagonal(blocks, axis1=2, axis2=3)
    np.testing.assert_allclose(found, np.reshape(want, found.shape), rtol=1e-12)


@pytest.mark.slow
def test_adjoints_of_a_para_gru_are_products_of_numbers(x64):
    cell = ParaGRU(H, param_dtype=jnp.float64)
    params, xs, carry = problem(cell)
    weights, h, slopes = jax.tree.map(np.asarray, params), np.asarray(carry.h), []
    for x in np.asarray(xs):
        h, slope = gru_step(weights, x, h)
        slopes.append(slope)
    want = np.cumprod(slopes[::-1], axis=0)[::-1]
    adjoints = diagnostics.adjoints(cell, params, xs, lambda ys: ys[-1].sum(), carry)
    np.testing.assert_allclose(adjoints.h, want, rtol=1e-11)


@pytest.mark.slow
def test_slopes_of_a_para_gru_may_be_negative_and_exceed_one(x64):
    """With z open and r closed or open, n = tanh(w_n r h): the slope at h = 0 is w_n r."""
    cell = ParaGRU(2, param_dtype=jnp.float64)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, D))
    params = params._replace(
        recurrent_kernel=jnp.array([0.0, 0, 0, 0, -3, 3]), bias=jnp.array([9.0, 9, 9, 9, 0, 0])
    )
    u = cell.project(params, jnp.zeros(D))
    jacobian = jax.jacfwd(lambda c: cell.step(params, c, u).h)(cell.initial_carry(())).h
    open_ = sigmoid(9)
    want = 1 - open_ + open_ * np.array([-3, 3]) * open_
    np.testing.assert_allclose(np.diag(jacobian), want, rtol=1e-12)
    assert want[0] < 0 and want[1] > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_the_fast_backward_equals_the_plain_one(name, x64):
    cell = CELLS[name](H, param_dtype=jnp.float64)
    given = problem(cell)
    assert uses_fast_path(cell, *given)
    plain = unrolled(without_fast_path(cell))(*given)
    assert oracles.relative_error(unrolled(cell)(*given), plain) < 1e-12


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    params = ParaGRU(D, kernel_init=Identity(), forget_bias=1.5).init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 3 * D), (3 * D,), (3 * D,)]
    np.testing.assert_array_equal(params.input_kernel, np.tile(np.eye(D), 3))
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, -1.5, 0.0], D))
    assert 0 < np.abs(params.recurrent_kernel).max() <= D**-0.5
    two = Uniform(0.0), Uniform(0.2)
    params = ParaLSTM(H, recurrent_kernel_init=(*two, Uniform(0.0)), peephole_init=two).init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 15), (15,), (15,), (10,)]
    np.testing.assert_array_equal(params.bias, np.repeat([1.0, 0.0, 0.0], H))
    f, g, o = np.split(params.recurrent_kernel, 3)
    assert not f.any() and g.all() and not o.any()
    f, o = np.split(params.peephole, 2)
    assert not f.any() and o.all() and np.abs(o).max() <= 0.2
    params = ParaLSTM(H).init(KEY, D)
    drawn = np.concatenate([np.split(params.recurrent_kernel, 3), np.split(params.peephole, 2)])
    assert np.unique(drawn).size == drawn.size
    f = ParaLSTM(H, forget_bias=Chrono(9.0)).init(KEY, D).bias[:H]
    assert (f > 0).all() and (f <= np.log(8)).all()


def test_a_fresh_initialiser_is_not_compiled_again():
    assert ParaGRU(H, forget_bias=2.0).without_initialisers() == ParaGRU(H)
    assert ParaLSTM(H, peephole_init=Uniform(0.1)).without_initialisers() == ParaLSTM(H)


@pytest.mark.slow
def test_gates_are_found_by_name():
    found = {}
    for cell in (ParaGRU(H), ParaLSTM(H)):
        params, carry = cell.init(KEY, D), cell.initial_carry((B,))
        u = cell.project(params, jnp.ones((B, D)))
        text = str(jax.make_jaxpr(lambda *a, cell=cell: cell.step(*a))(params, carry, u))
        found[type(cell)] = {gate for gate in "rznfgo" if f"name[name={gate}]" in text}
    assert found == {ParaGRU: {"r", "z"}, ParaLSTM: {"f", "o"}}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        ParaGRU(0)
    with pytest.raises(ValueError, match="recurrent_kernel_init must be one initialiser or 3"):
        ParaGRU(H, recurrent_kernel_init=(Uniform(),) * 2)
    with pytest.raises(ValueError, match="peephole_init must be one initialiser or 2, .* f, o;"):
        ParaLSTM(H, peephole_init=(Uniform(),) * 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_it_passes_check_cell(name):
    check_cell(CELLS[name](H), D)
