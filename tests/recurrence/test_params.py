"""Parameters of another cell or shape are refused before they are broadcast into numbers."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_cells import GRUD, CoRNN, Timed, TimedInputs

from rnnjax import GRU, LSTM, Cell, Elman, diagnostics, unroll
from rnnjax.cells import LayerNorm, VariationalDropout, Zoneout

KEY = jax.random.key(0)
XS = jnp.ones((5, 2, 3))


def params_of(cell):
    return cell.init(KEY, 3)


def changed(cell, **arrays):
    return cell, params_of(cell)._replace(**arrays)


KERNEL = jnp.ones((4, 4))
SHAPES = [
    (LSTM(4), params_of(Elman(4)), "input_kernel", (3, 16), "LSTM", (3, 4)),
    (Elman(4), params_of(Elman(5)), "input_kernel", (3, 4), "Elman", (3, 5)),
    (Zoneout(LSTM(4), rate=0.5), params_of(Elman(4)), "input_kernel", (3, 16), "Zoneout", (3, 4)),
    (*changed(Elman(4), bias=jnp.ones(1)), "bias", (4,), "Elman", (1,)),
    (*changed(GRU(4), bias=jnp.array(1.0)), "bias", (12,), "GRU", ()),
    (*changed(GRU(4), recurrent_bias=jnp.ones(1)), "recurrent_bias", (4,), "GRU", (1,)),
    (*changed(LSTM(4), recurrent_kernel=KERNEL), "recurrent_kernel", (4, 16), "LSTM", (4, 4)),
]  # fmt: skip
FIELDS = "GatedParams(input_kernel, recurrent_kernel, bias)"
STRUCTURES = [
    (LSTM(4), params_of(GRU(4)), f"must be what LSTM.init returns, {FIELDS}; got GRUParams("),
    (LayerNorm(LSTM(4)), params_of(LSTM(4)), f"got {FIELDS}"),
    (LSTM(4), {"w": 1.0}, f"must be what LSTM.init returns, {FIELDS}; got a dict of 'w'"),
    (LSTM(4), None, "; got None"),
    (LSTM(4), {"params": {}}, "; of a layer's variables take layer.cell_params"),
]


@pytest.mark.parametrize(("cell", "params", "name", "want", "kind", "got"), SHAPES)
def test_a_shape_that_is_not_the_cells_own(cell, params, name, want, kind, got):
    message = (
        f"params.{name} must have shape {want}, as {kind}.init makes it for 3 features; got {got}"
    )
    for run in (unroll, jax.jit(unroll, static_argnums=0), diagnostics.jacobians):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            run(cell, params, XS)


@pytest.mark.parametrize(("cell", "params", "message"), STRUCTURES)
def test_a_structure_that_is_not_the_cells_own(cell, params, message):
    for run in (unroll, diagnostics.jacobians):
        with pytest.raises(ValueError, match="^params ") as error:
            run(cell, params, XS)
        assert message in str(error.value)


@pytest.mark.slow
def test_the_inputs_of_a_stochastic_cell_are_within_their_noise():
    cell = VariationalDropout(LSTM(4), rate=0.5)
    noisy = cell.with_noise(KEY, XS)
    unroll(cell, params_of(LSTM(4)), noisy)
    with pytest.raises(ValueError, match=r"must have shape \(3, 16\)"):
        unroll(cell, params_of(Elman(4)), noisy)


def test_inputs_of_another_size():
    with pytest.raises(ValueError, match=r"must have 3 features.* got shape \(5, 2, 4\)"):
        unroll(LSTM(4), params_of(LSTM(4)), jnp.ones((5, 2, 4)))


def test_what_init_does_not_draw_is_not_checked():
    @dataclasses.dataclass(frozen=True)
    class ByHand(Elman):
        def init(self, key, input_size):
            raise NotImplementedError

    params = params_of(Elman(4))
    assert jnp.array_equal(unroll(ByHand(4), params, XS)[1], unroll(Elman(4), params, XS)[1])


def test_own_cells_pass():
    for cell in (CoRNN(4), Elman(4)):
        unroll(cell, params_of(cell), XS)


TREES = {
    "GRU-D": (GRUD(4, inputs=3), {"value": 3, "mask": 3, "step": 3}),
    "timed": (Timed(4), TimedInputs(3, 1)),
    "dropout": (VariationalDropout(Zoneout(Timed(4), 0.3), 0.4), TimedInputs(3, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_parameters_for_inputs_that_are_a_tree(name):
    """`init` is given the tree of sizes; other parameters are refused, in the same words."""
    cell, sizes = TREES[name]
    params = cell.init(KEY, sizes)
    xs = jax.tree.map(lambda size: jnp.ones((5, 2, size)), sizes)
    assert unroll(cell, params, xs)[1].shape == (5, 2, 4)
    wrong = params._replace(bias=jnp.ones(1))
    width = params.bias.shape[0]
    with pytest.raises(ValueError, match=rf"params.bias must have shape \({width},\), as .*\(1,\)"):
        unroll(cell, wrong, xs)
    with pytest.raises(ValueError, match=r"^params must be what .*; got None"):
        diagnostics.gradient_profile(cell, None, xs, lambda ys: ys[-1].sum())
    if name == "dropout":
        noisy = cell.with_noise(KEY, xs)
        assert noisy.noise.shape == (5, 2, 4)
        unroll(cell, params, noisy)
        with pytest.raises(ValueError, match="params.bias must have shape"):
            unroll(cell, wrong, noisy)


@dataclasses.dataclass(frozen=True)
class Pair(Cell):
    """h' = tanh(a + b + U h) for inputs (a, b), a plain tuple or list; `init` takes a number."""

    def init(self, key, input_size):
        return {"u": jnp.ones((input_size, input_size))}

    def initial_carry(self, batch_shape):
        return {"h": jnp.zeros((*batch_shape, 3))}

    def project(self, ready, x):
        first, second = x
        return first + second

    def step(self, ready, carry, u):
        return {"h": jnp.tanh(u + carry["h"] @ ready["u"])}

    def output(self, carry):
        return carry["h"]


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_tuple_or_a_list_that_project_takes(kind):
    params = Pair().init(KEY, 3)
    _, outputs = unroll(Pair(), params, kind([XS, 2 * XS]))
    carry = {"h": jnp.zeros((2, 3))}
    for y in outputs:
        carry = Pair().step(params, carry, 3 * XS[0])
        np.testing.assert_allclose(y, carry["h"], rtol=1e-6)


class Stacks(Elman):
    """A `project` that makes one array of whatever it is given."""

    def project(self, ready, x):
        return Elman.project(self, ready, jnp.asarray(x))


LISTS = {
    "steps [B, D]": ([*XS], "a list of 5 arrays; write jnp.stack(xs)"),
    "steps [D]": ([*XS[:, 0]], "a list of 5 arrays; write jnp.stack(xs)"),
    "a tuple": ((*XS,), "a tuple of 5 arrays; write jnp.stack(xs)"),
    "NumPy": ([*np.ones((5, 2, 3))], "a list of 5 arrays; write jnp.stack(xs)"),
    "numbers": (np.ones((5, 3)).tolist(), "a list of 5 lists; write jnp.asarray(xs)"),
    "batches of numbers": (np.ones((5, 2, 3)).tolist(), "a list of 5 lists; write jnp.asarray(xs)"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_time_steps_is_told_what_to_write(name):
    steps, message = LISTS[name]
    params = params_of(Elman(4))
    message = re.escape(f"xs must be one array [T, *batch, D], got {message}")
    for cell in (Elman(4), Zoneout(Elman(4), 0.1), Stacks(4)):
        for run in (unroll, diagnostics.jacobians):
            with pytest.raises(TypeError, match=f"^{message}$"):
                run(cell, params, steps)
