"""Readers against their parts by hand: last states and poolings."""

import functools

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from architectures import H
from by_hand import LENGTHS, VALID, XS, B, N, check_equal, dense, loop, normal, own, params_of

from rnnjax import LSTM, Elman, layers, models
from rnnjax.cells import LSTMCarry
from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer


def at_end(outputs):
    """Return, of `[T+1, B, H]`, what each sequence ends with."""
    return outputs[N, np.arange(B)]


def rnn_reads(params, xs):
    start = {k: jnp.tile(a, (B, 1)) for k, a in params["initial_carry"].items()}
    return at_end(loop(LSTM(H), own(LSTM(H), params), xs, LSTMCarry(**start)))


def bidirectional_reads(params, xs):
    cell = Elman(H)
    backwards = [jnp.concatenate([x[:n][::-1], x[n:]]) for x, n in zip(xs, LENGTHS, strict=True)]
    ahead = loop(cell, own(cell, params["forward_rnn"]), xs)
    behind = loop(cell, own(cell, params["backward_rnn"]), jnp.stack(backwards))
    return jnp.concatenate([at_end(ahead), at_end(behind)], -1)


def two_layers(params, xs):
    cell = Elman(H)
    first = loop(cell, own(cell, params["layers_0"]), xs)
    return first, loop(cell, own(cell, params["layers_1"]), jnp.swapaxes(first[1:], 0, 1))


def stack_reads(params, xs):
    return at_end(two_layers(params, xs)[1])


def residual_reads(params, xs):
    first, second = two_layers(params, xs)
    return at_end(first + second)


def causal(layer):
    """Return how the last valid output is found in those of all steps, which see the past alone."""

    def read(params, xs):
        ys = layer.apply({"params": params}, xs)
        return jnp.stack(
            [y[n - 1] if n else jnp.zeros(H) for y, n in zip(ys, LENGTHS, strict=True)]
        )

    return read


TCN_LAYER, TRANSFORMER = TCN(H, num_blocks=1), Transformer(H, num_heads=2, num_layers=1)


READERS = {
    "rnn": (RNN(LSTM(H), initial_carry_init=normal), rnn_reads),
    "bidirectional": (Bidirectional(RNN(Elman(H)), RNN(Elman(H))), bidirectional_reads),
    "stack": (Stack([RNN(Elman(H)), RNN(Elman(H))]), stack_reads),
    "residual": (Stack([RNN(Elman(H)), RNN(Elman(H))], residual=True), residual_reads),
    "tcn": (TCN_LAYER, causal(TCN_LAYER)),
    "transformer": (TRANSFORMER, causal(TRANSFORMER)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_the_last_state_is_where_each_sequence_ends(name):
    layer, read = READERS[name]
    model = models.ManyToOne(layer, layers.LinearHead(2))
    params = params_of(model, XS)

    def hand(params, xs):
        return dense(params["head"], read(params["layer"], xs))

    def run(params, xs):
        xs = jnp.where(VALID[..., None], xs, jnp.nan)
        return model.apply({"params": params}, xs, seq_lengths=N)

    values, gradients = check_equal(run, [hand], params, XS)
    assert not gradients[1][~VALID].any()
    nothing = params["head"]["dense"]["bias"]
    assert (oracles.relative_error(values[2], nothing) > 0.1) == (name == "rnn")


def mean_by_hand(params, hs, valid):
    del params
    return (hs * valid).sum(1) / jnp.maximum(valid.sum(1), 1)


def attention_by_hand(params, hs, valid):
    scores = jnp.tanh(dense(params["key"], hs)) @ params["score"]["kernel"]
    weights = jnp.exp(scores) * valid
    return (weights * hs).sum(1) / jnp.where(valid.any(1), weights.sum(1), 1)


def users_pooling(outputs, final, seq_lengths):
    """The greatest and the last of every output."""
    there = jnp.arange(outputs.shape[-2]) < seq_lengths[:, None]
    greatest = jnp.where(there[..., None], outputs, -2).max(-2)
    return jnp.concatenate([greatest, final()], -1)


def users_by_hand(params, hs, valid):
    del params
    greatest = functools.reduce(jnp.maximum, jnp.swapaxes(jnp.where(valid, hs, -2), 0, 1))
    lasts = [h[n - 1] if n else jnp.zeros(H) for h, n in zip(hs, LENGTHS, strict=True)]
    return jnp.concatenate([greatest, jnp.stack(lasts)], -1)


POOLINGS = {
    "mean": (layers.mean_state, mean_by_hand),
    "attention": (layers.AttentionPooling(3), attention_by_hand),
    "users": (users_pooling, users_by_hand),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_by_hand(name):
    pooling, pool = POOLINGS[name]
    model = models.ManyToOne(RNN(Elman(H)), layers.LinearHead(2), pooling=pooling)
    params = params_of(model, XS, seq_lengths=N)
    every = () if name == "users" else (jnp.ones_like(VALID),)  # without lengths all steps count

    def run(params, xs):
        found = [model.apply({"params": params}, xs, seq_lengths=N)]
        return found + [model.apply({"params": params}, xs) for _ in every]

    def hand(params, xs):
        hs = jnp.swapaxes(loop(Elman(H), own(Elman(H), params["layer"]), xs)[1:], 0, 1)
        pooled = [pool(params.get("pooling"), hs, v[..., None]) for v in (jnp.array(VALID), *every)]
        return [dense(params["head"], a) for a in pooled]

    check_equal(run, [hand], params, XS)
