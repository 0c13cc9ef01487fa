"""A model of tokens small enough to enumerate."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(0)
B, V, LENGTH, END = 2, 3, 4, 2
RNG = np.random.default_rng(5)
TABLE, MIX, STIR = (RNG.normal(size=n) for n in ((V, V, V), (2, V), (V, 2)))


class Carry(NamedTuple):
    """What a model of order two remembers, and a trace of everything before."""

    previous: Any
    trace: Any


START = Carry(np.array([0, 1]), RNG.normal(size=(B, 2)))


def step(carry, token, table=TABLE):
    stir, mix, table = (jnp.asarray(a, carry.trace.dtype) for a in (STIR, MIX, table))
    trace = jnp.tanh(carry.trace + stir[token])
    logits = table[carry.previous, token] + trace @ mix
    return Carry(token, trace), logits


def next_scores(state, token):
    """One step of one example in NumPy: the next state and the log probabilities."""
    previous, trace = state
    trace = np.tanh(trace + STIR[token])
    logits = TABLE[previous, token] + trace @ MIX
    return (token, trace), logits - np.log(np.exp(logits).sum())


def example(b):
    return int(START.previous[b]), START.trace[b]


def sequence(state, start, tokens, end):
    """The sequence that counts, with what follows `end` replaced, its log p, and its length."""
    total, length = 0.0, 0
    for token in tokens:
        state, scores = next_scores(state, start)
        total, length, start = total + scores[token], length + 1, token
        if token == end:
            break
    return (*tokens[:length], *[end] * (len(tokens) - length)), total, length


def all_sequences(state, start, end, length=LENGTH):
    found = {}
    for tokens in itertools.product(range(V), repeat=length):
        tokens, total, count = sequence(state, start, tokens, end)
        found[tokens] = total, count
    return found
