"""Every layer and every model, small: what the tests of padding, gradients and sharding go over.

With them a cell of a user's own, which nothing in the library knows.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import GRU, LSTM, Cell, Elman, layers, models
from rnnjax.cells import LayerNorm, VariationalDropout, Zoneout
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer

D, H, V = 3, 4, 6


class LeakyParams(NamedTuple):
    kernel: Any
    feedback: Any


class LeakyCarry(NamedTuple):
    age: Any  # an integer: how often it was stepped
    potential: Any


@dataclasses.dataclass(frozen=True)
class Leaky(Cell):
    """A cell of a user's: not gated, with an integer in its carry and a linear readout."""

    features: int
    leak: float = 0.4

    def init(self, key, input_size):
        keys = jax.random.split(key)
        shapes = (input_size, self.features), (self.features, self.features)
        return LeakyParams(*map(jax.random.normal, keys, shapes))

    def initial_carry(self, batch_shape):
        potential = jnp.zeros((*batch_shape, self.features))
        return LeakyCarry(jnp.zeros(batch_shape, jnp.int32), potential)

    def project(self, params, x):
        return x @ params.kernel

    def step(self, params, carry, u):
        new = jnp.tanh(u + carry.potential @ params.feedback)
        return LeakyCarry(carry.age + 1, self.leak * carry.potential + (1 - self.leak) * new)

    def output(self, carry):
        return carry.potential * jnp.cos(carry.age)[..., None]


CELLS = {"elman": Elman(H), "lstm": LSTM(H), "gru": GRU(H), "leaky": Leaky(H)}


def recurrent(cell):
    """Return by name the recurrent layers around a cell."""

    def both(**options):
        return Bidirectional(RNN(cell), RNN(cell), **options)

    normal = jax.nn.initializers.normal()
    return {
        "rnn": RNN(cell),
        "reversed": RNN(cell, reverse=True),
        "learned_carry": RNN(cell, initial_carry_init=normal),
        "zoneout": RNN(Zoneout(cell, 0.2)),
        "bidirectional": both(merge_fn=jnp.add),
        "deep": Stack([RNN(cell), RNN(cell, checkpoint_every=2)], residual=True),
        "deep_bidirectional": Stack([both(), both()], dropout_rate=0.3),
    }


LAYERS = {f"lstm {name}": layer for name, layer in recurrent(LSTM(H)).items()} | {
    "layer_norm": RNN(VariationalDropout(LayerNorm(GRU(H)), 0.3)),
    "tcn": TCN(H, num_blocks=2, dropout_rate=0.2),
    "transformer": Transformer(H, num_heads=2, window=3, dropout_rate=0.2),
}


def embed():
    return layers.Embed(V, D)


def decoder(cell, attention=None):
    return models.OneToMany(
        Stack([RNN(cell), RNN(cell)]), layers.SoftmaxHead(V), embed(), attention
    )


def sequence_models(cell):
    """Return by name the models of one sequence of tokens, read by layers around a cell."""
    layer = recurrent(cell)
    return {
        "many_to_one_last": models.ManyToOne(
            layer["deep_bidirectional"], layers.SoftmaxHead(2), embed()
        ),
        "many_to_one_mean": models.ManyToOne(
            layer["rnn"], layers.LogisticHead(2), embed(), layers.mean_state
        ),
        "many_to_one_attention": models.ManyToOne(
            layer["bidirectional"], layers.GaussianHead(1), embed(), layers.AttentionPooling(3)
        ),
        "many_to_many": models.ManyToMany(layer["deep"], layers.LinearHead(2), embed()),
    }


def translators(cell):
    """Return by name the models that read one sequence and write another."""
    layer = recurrent(cell)
    return {
        "plain": models.EncoderDecoder(layer["rnn"], decoder(cell), embed()),
        "additive": models.EncoderDecoder(
            layer["bidirectional"], decoder(cell, layers.AdditiveAttention(3)), embed()
        ),
        "dot_product": models.EncoderDecoder(
            TCN(H, num_blocks=1), decoder(cell, layers.DotProductAttention(3)), embed()
        ),
    }


def weighted_sum(tree):
    """Return a scalar that depends on every floating entry of a tree, each with its own weight."""
    floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return sum(
        jnp.sum(a * jnp.cos(jnp.arange(a.size).reshape(a.shape) + 0.5).astype(a.dtype))
        for a in floats
    )
