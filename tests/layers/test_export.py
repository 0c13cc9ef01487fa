"""Programs exported with symbolic batch and length (`jax.export`) are the original ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from slow import slow_but_for

import rnnjax
from rnnjax import GRU, LSTM, Elman, layers, models
from rnnjax.cells import LayerNorm, Zoneout

KEY = jax.random.key(0)
BATCH, LENGTH = export.symbolic_shape("b, t")
XS, LENGTHS = jax.random.normal(KEY, (2, 7, 3)), jnp.array([7, 4])
LAYERS = {
    "RNN": layers.RNN(LSTM(4)),
    "reversed": layers.RNN(GRU(4), reverse=True),
    "checkpoints": layers.RNN(LSTM(4), checkpoint_every="sqrt"),
    "others": layers.RNN(
        Elman(4),
        truncate_every=2,
        checkpoint_every=1,
        initial_carry_init=jax.nn.initializers.ones,
    ),
    "LayerNorm": layers.RNN(LayerNorm(LSTM(4))),
    "Zoneout": layers.RNN(Zoneout(LSTM(4), rate=0.1)),
    "deep": layers.deep(LSTM(4), 2, bidirectional=True),
    "TCN": layers.TCN(4),
    "Transformer": layers.Transformer(4, num_heads=2),
    "ManyToMany": models.ManyToMany(layers.RNN(LSTM(4)), layers.SoftmaxHead(5)),
    "ManyToOne": models.ManyToOne(layers.RNN(LSTM(4)), layers.SoftmaxHead(5)),
}
STEPWISE = {"RNN": LAYERS["RNN"], "deep": LAYERS["deep"], "ManyToMany": LAYERS["ManyToMany"]}


# While a program is exported its sizes are symbols, which no annotation allows.
pytestmark = pytest.mark.usefixtures("without_type_checks")


def like(tree):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def close(found, want):
    largest = max(1, *(abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(want)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * largest)


@pytest.mark.parametrize("layer", slow_but_for("RNN", LAYERS))
def test_a_layer_is_exported_with_any_batch_and_length(layer):
    variables = layer.init(KEY, XS)

    def run(variables, xs, lengths):
        def loss(variables):
            ys = layer.apply(variables, xs, seq_lengths=lengths)
            return (ys**2).sum(), ys

        return jax.grad(loss, has_aux=True)(variables)

    shapes = jax.ShapeDtypeStruct((BATCH, LENGTH, 3), jnp.float32)
    counts = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    exported = export.export(jax.jit(run))(like(variables), shapes, counts)
    close(exported.call(variables, XS, LENGTHS), jax.jit(run)(variables, XS, LENGTHS))


@pytest.mark.slow
@pytest.mark.parametrize("layer", slow_but_for("RNN", [*STEPWISE]))
def test_masks_and_resets_are_exported(layer):
    layer = STEPWISE[layer]
    variables = layer.init(KEY, XS)
    mask, resets = jax.random.bernoulli(KEY, 0.6, (2, 2, 7))

    def run(variables, xs, mask, resets):
        options = {"masked_output": 0.5, "resets": resets, "clip_adjoints": 0.1}
        return layer.apply(variables, xs, mask=mask, return_carries=True, **options)

    shapes = jax.ShapeDtypeStruct((BATCH, LENGTH, 3), jnp.float32)
    flags = jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.bool_)
    exported = export.export(jax.jit(run))(like(variables), shapes, flags, flags)
    close(exported.call(variables, XS, mask, resets), jax.jit(run)(variables, XS, mask, resets))


@pytest.mark.parametrize("shape", [(5, BATCH, 3), (LENGTH, 2, 3), (LENGTH, BATCH, 3)])
def test_unroll_is_exported(shape):
    cell = LSTM(4)
    params, xs = cell.init(KEY, 3), jax.random.normal(KEY, (5, 2, 3))

    def run(params, xs):
        return rnnjax.unroll(cell, params, xs)

    exported = export.export(jax.jit(run))(like(params), jax.ShapeDtypeStruct(shape, jnp.float32))
    close(exported.call(params, xs), run(params, xs))
