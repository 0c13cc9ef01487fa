"""Inputs that the tests of layers share."""

import jax
import jax.numpy as jnp
from architectures import D

KEY = jax.random.key(0)
B, T = 4, 6
LENGTHS = jnp.array([T, 3, 1, 0])
XS = jax.random.normal(KEY, (B, T, D))


def run(layer, n=None, **options):
    variables = layer.init(KEY, XS)
    return layer.apply(variables, XS, seq_lengths=n, return_carry=True, **options)
