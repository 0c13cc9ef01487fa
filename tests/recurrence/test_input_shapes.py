"""Inputs of several axes: a gated cell that reads images, beside the same cell that reads rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from slow import slow_but_for

import rnnjax
from rnnjax import GRU
from rnnjax.cells import VariationalDropout, Zoneout
from rnnjax.layers import RNN
from rnnjax.recurrence.fast import served
from rnnjax.testing import CellError, check_cell

T, B, H, SHAPE = 6, 4, 5, (2, 3)
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glimpse(GRU):
    """A GRU that reads images `[2, 3, D]`, all pixels at once."""

    def input_shape(self, input_size):
        return (*SHAPE, input_size)

    def init(self, key, input_size):
        return GRU.init(self, key, 6 * input_size)

    def project(self, ready, x):
        return GRU.project(self, ready, x.reshape(*x.shape[:-3], -1))


IMAGES = jax.random.normal(KEY, (T, B, *SHAPE, 2))
ROWS = IMAGES.reshape(T, B, 12)
LENGTHS = np.array([6, 0, 3, 5])
RESETS = np.asarray(jax.random.bernoulli(KEY, 0.3, (T, B)))
OPTIONS = {
    "padding": {"seq_lengths": LENGTHS, "reverse": True},
    "resets": {"resets": RESETS, "return_carries": True},
    "checkpoints": {"checkpoint_every": 4},
    "probe": {"norm_probe": jnp.zeros((T, B)), "clip_adjoints": 0.1},
}


def gradients(cell, params, xs, **options):
    @jax.jit
    def run(params, xs):
        def loss(params, xs):
            found = rnnjax.unroll(cell, params, xs, **options)
            return (found[1] ** 2).sum(), found

        return jax.grad(loss, (0, 1), has_aux=True)(params, xs)

    (of_params, of_xs), found = run(params, xs)
    return found, of_params, of_xs.reshape(T, B, 12)


@pytest.mark.slow
@pytest.mark.parametrize("options", slow_but_for("padding", OPTIONS))
def test_images_give_what_their_rows_give(options):
    params = Glimpse(H).init(KEY, 2)
    got = gradients(Glimpse(H), params, IMAGES, **options)
    want = gradients(GRU(H), params, ROWS, **options)
    assert oracles.relative_error(got, want) < 1e-6
    carry = Glimpse(H).initial_carry((B,))
    assert served(Glimpse(H), params, carry, IMAGES)


@pytest.mark.slow
def test_noise_is_drawn_for_each_image():
    cell = VariationalDropout(Zoneout(Glimpse(H), 0.2), 0.3)
    plain = VariationalDropout(Zoneout(GRU(H), 0.2), 0.3)
    params, noisy = cell.init(KEY, 2), cell.with_noise(KEY, IMAGES)
    want = plain.with_noise(KEY, ROWS)
    np.testing.assert_array_equal(noisy.noise, want.noise)
    np.testing.assert_array_equal(noisy.x.noise, want.x.noise)
    got = rnnjax.unroll(cell, params, noisy)
    assert oracles.relative_error(got, rnnjax.unroll(plain, params, want)) < 1e-6


@pytest.mark.slow
def test_a_layer_takes_images():
    net, rows = RNN(Glimpse(H), reverse=True), RNN(GRU(H), reverse=True)
    images, flat = jnp.moveaxis(IMAGES, 0, 1), jnp.moveaxis(ROWS, 0, 1)
    variables = net.init(KEY, images)
    got = net.apply(variables, images, seq_lengths=LENGTHS)
    want = rows.apply(variables, flat, seq_lengths=LENGTHS)
    assert oracles.relative_error(got, want) < 1e-6


def test_images_may_be_sharded_along_explicit_axes():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    params = Glimpse(H).init(KEY, 2)
    want = rnnjax.unroll(Glimpse(H), params, IMAGES)
    with jax.set_mesh(mesh):
        xs = jax.device_put(IMAGES, NamedSharding(mesh, P(None, "x")))
        final, outputs = rnnjax.unroll(Glimpse(H), params, xs)
    assert outputs.sharding.spec[:2] == (None, "x") and final.h.sharding.spec[0] == "x"
    assert oracles.relative_error(jax.device_get((final, outputs)), want) < 1e-5


@pytest.mark.parametrize(
    ("shape", "xs"),
    [((T, 2, 3, 3), (T, 2, 3, 3)), ((T, B, 3, 2, 2), (T, B, 3, 2, 2)), ((2, 3, 2), (2, 3, 2))],
)
def test_images_of_another_shape_are_refused(shape, xs):
    with pytest.raises(ValueError) as error:
        rnnjax.unroll(Glimpse(H), Glimpse(H).init(KEY, 2), jnp.zeros(shape))
    if shape == (T, 2, 3, 3):
        want = (
            "params.input_kernel must have shape (18, 15), as Glimpse.init makes it for 3 "
            "features; got (12, 15)"
        )
    else:
        want = f"xs must have shape [T, *batch, 2, 3, D], at least 4 axes; got [{xs}]"
    assert str(error.value) == want


@pytest.mark.slow
def test_a_gated_cell_of_images_passes_check_cell():
    check_cell(Glimpse(3), 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swapped(GRU):
    """Says that the features come first."""

    def input_shape(self, input_size):
        return (input_size, 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed(GRU):
    """Says it in a list."""

    def input_shape(self, input_size):
        return [input_size]


@pytest.mark.parametrize(("cell", "said"), [(Swapped(3), "(2, 3)"), (Listed(3), "[2]")])
def test_check_cell_names_a_wrong_input_shape(cell, said):
    with pytest.raises(CellError) as error:
        check_cell(cell, 2)
    assert str(error.value).endswith(
        f".input_shape(2) must be a tuple of positive integers that ends in 2, got {said}."
    )
