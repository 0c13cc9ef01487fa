"""Parameters of another cell or shape are refused before they are broadcast into numbers."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from own_cells import CoRNN

from rnnjax import GRU, LSTM, Elman, diagnostics, unroll
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
