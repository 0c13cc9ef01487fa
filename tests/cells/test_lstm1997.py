"""The LSTM of 1997: its equations unit by unit, its counts of weights, and the error carousel."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.nn.initializers import constant
from paths import problem, unrolled, uses_fast_path, without_fast_path

import rnnjax
from rnnjax import diagnostics
from rnnjax.cells import LSTM1997, LSTM1997Params
from rnnjax.cells.initializers import Uniform
from rnnjax.testing import check_cell

T, B, D = 7, 2, 3
KEY = jax.random.key(0)
BLOCKS, SIZE = 2, 3  # memory blocks, cells in each
CELL = LSTM1997(BLOCKS * SIZE, cells_per_block=SIZE, param_dtype=jnp.float64)
TRUNCATED = LSTM1997(6, cells_per_block=SIZE, truncated=True, param_dtype=jnp.float64)


def by_hand(params, xs, carry):
    """The paper's equations for one example, unit by unit."""

    def f(x):
        return 1 / (1 + np.exp(-x))

    w, u, b = (np.asarray(leaf) for leaf in params)
    c, h, i, o = (np.array(leaf) for leaf in carry)
    outputs = []
    for x in xs:
        before = np.concatenate([h, i, o])
        net = [x @ w[:, k] + before @ u[:, k] + b[k] for k in range(len(b))]
        i, o = f(np.array(net[:BLOCKS])), f(np.array(net[BLOCKS : 2 * BLOCKS]))
        c, h = c.copy(), h.copy()
        for block in range(BLOCKS):
            for j in range(SIZE):
                cell = j * BLOCKS + block
                g = 4 * f(net[2 * BLOCKS + cell]) - 2
                c[cell] = c[cell] + i[block] * g
                h[cell] = o[block] * (2 * f(c[cell]) - 1)
        outputs.append(h)
    return (c, h, i, o), np.stack(outputs)


def test_values_are_those_of_the_papers_equations(x64):
    params, xs, carry = problem(CELL)
    final, ys = rnnjax.unroll(CELL, params, xs, carry)
    for b in range(B):
        one = jax.tree.map(lambda leaf, b=b: leaf[b], carry)
        last, outputs = by_hand(params, np.asarray(xs[:, b]), one)
        np.testing.assert_allclose(ys[:, b], outputs, rtol=1e-11)
        for got, want in zip(final, last, strict=True):
            np.testing.assert_allclose(got[b], want, rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "outputs", "blocks", "size", "biases", "count"),
    [
        pytest.param(2, 1, 2, 2, "all", 93, id="adding"),
        pytest.param(1, 1, 3, 1, "hidden", 102, id="two sequences"),
        pytest.param(8, 4, 2, 2, "all", 156, id="temporal order"),
        pytest.param(8, 8, 3, 2, "all", 308, id="temporal order 6b"),
        pytest.param(54, 2, 2, 1, "none", 364, id="2c"),
        pytest.param(7, 7, 4, 1, "gates", 264, id="reber 4x1"),
        pytest.param(7, 7, 3, 2, "gates", 276, id="reber 3x2"),
    ],
)
def test_counts_of_weights_are_those_of_the_paper(inputs, outputs, blocks, size, biases, count):
    cell = LSTM1997(blocks * size, cells_per_block=size)
    params = jax.eval_shape(lambda key: cell.init(key, inputs), KEY)
    units = {"all": outputs + params.bias.size, "hidden": params.bias.size, "none": 0}
    units["gates"] = 2 * blocks
    ours = params.input_kernel.size + params.recurrent_kernel.size + cell.output_size * outputs
    assert ours + units[biases] == count


def adjoints(cell):
    """Return d L / d s_t of a loss at the last step, from random parameters, and the final c, o."""
    params, xs, carry = problem(cell)
    found = diagnostics.adjoints(cell, params, xs, lambda ys: ys[-1].sum(), carry)
    return found, rnnjax.unroll(cell, params, xs, carry)[0]


@pytest.mark.slow
def test_truncated_the_error_flows_unchanged_through_the_state(x64):
    """d L / d c_t = o_T (d/dc) (2 s(c_T) - 1) at every t, and no error leaves by another way."""
    found, final = adjoints(TRUNCATED)
    s = 1 / (1 + np.exp(-np.asarray(final.c)))
    want = np.tile(final.o, SIZE) * 2 * s * (1 - s)
    np.testing.assert_allclose(found.c, np.broadcast_to(want, (T, *want.shape)), rtol=1e-13)
    assert not any(leaf.any() for leaf in (found.h, found.i, found.o))


@pytest.mark.slow
def test_otherwise_the_error_also_takes_the_other_ways(x64):
    found, _ = adjoints(CELL)
    assert all(leaf.any() for leaf in found)
    assert np.ptp(found.c, axis=0).min() > 1e-6


@pytest.mark.slow
def test_truncated_weights_learn_as_if_previous_activations_were_inputs(x64):
    params, xs, carry = problem(TRUNCATED)
    after = rnnjax.unroll(TRUNCATED, params, xs, carry, return_carries=True)[2]
    first, rest = (jnp.concatenate([c.h, c.i, c.o], axis=-1) for c in (carry, after))
    given = jnp.concatenate([xs, jnp.concatenate([first[None], rest[:-1]])], axis=-1)

    def truncated(params):
        return (rnnjax.unroll(TRUNCATED, params, xs, carry)[1] ** 2).sum()

    def open_loop(params):
        w, u, b = params
        params = LSTM1997Params(jnp.concatenate([w, u]), jnp.zeros_like(u), b)
        return (rnnjax.unroll(CELL, params, given, carry)[1] ** 2).sum()

    got, want = (jax.jit(jax.value_and_grad(loss))(params) for loss in (truncated, open_loop))
    assert oracles.relative_error(got, want) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("cell", [TRUNCATED, CELL], ids=["truncated", "full"])
def test_the_fast_backward_equals_the_plain_one(cell, x64):
    given = problem(cell)
    assert uses_fast_path(cell, *given)
    plain = unrolled(without_fast_path(cell))(*given)
    assert oracles.relative_error(unrolled(cell)(*given), plain) < 1e-12


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    biases = constant(jnp.array([-3.0, -6.0])), constant(-1.0), Uniform(0.0), Uniform(0.5)
    cell = LSTM1997(4, cells_per_block=2, bias_init=biases)
    assert cell.gate_names == ("i", "o", "g1", "g2") and cell.output_size == 4
    params = cell.init(KEY, D)
    assert [leaf.shape for leaf in params] == [(D, 8), (8, 8), (8,)]
    np.testing.assert_array_equal(params.bias[:6], [-3, -6, -1, -1, 0, 0])
    for leaf in params[:2]:
        assert 0.05 < jnp.abs(leaf).max() <= 0.1
    assert cell.without_initialisers() == LSTM1997(4, cells_per_block=2)
    assert not any(leaf.any() for leaf in cell.initial_carry((B,)))


@pytest.mark.slow
def test_gates_of_a_block_are_shared_and_found_by_name():
    cell = LSTM1997(6, cells_per_block=3)
    params = jax.tree.map(jnp.zeros_like, cell.init(KEY, D))
    params = params._replace(bias=jnp.arange(10.0))
    found = diagnostics.gates(cell, params, jnp.ones((1, B, D)))
    assert {key: value.shape for key, value in found.items()} == {
        "i": (1, B, 2),
        "o": (1, B, 2),
    }
    np.testing.assert_allclose(found["i"][0, 0], jax.nn.sigmoid(jnp.arange(2.0)), rtol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="features must be a positive integer, got 0"):
        LSTM1997(0)
    with pytest.raises(ValueError, match="cells_per_block must be a positive integer, got 0"):
        LSTM1997(4, cells_per_block=0)
    with pytest.raises(ValueError, match="features must be a multiple of cells_per_block = 3, got"):
        LSTM1997(4, cells_per_block=3)
    with pytest.raises(ValueError, match="bias_init must be one initialiser or 3, .* i, o, g1;"):
        LSTM1997(4, bias_init=(Uniform(),) * 4)
    cell = LSTM1997(4)
    with pytest.raises(ValueError, match="inputs must have 3 features"):
        rnnjax.unroll(cell, cell.init(KEY, D), jnp.zeros((T, B, D + 1)))


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(LSTM1997(6, cells_per_block=3), D)
