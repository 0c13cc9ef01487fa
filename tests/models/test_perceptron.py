"""Perceptrons against NumPy."""

import itertools

import architectures
import jax
import jax.numpy as jnp
import numpy as np
from architectures import V
from by_hand import TOKENS, VALID, XS, B, N, T, check_equal, dense, params_of

from rnnjax import layers, models


def test_the_perceptron_by_hand():
    model = models.OneToOne(layers.LinearHead(2), (4, 5))
    params = params_of(model, XS)

    def hand(params, xs):
        for name in ("hidden_0", "hidden_1"):
            xs = jnp.tanh(dense(params[name], xs))
        return dense(params["head"], xs)

    def both(params, xs):
        padded = jnp.where(VALID[..., None], xs, jnp.nan)
        variables = {"params": params}
        return model.apply(variables, xs), model.apply(variables, padded, seq_lengths=N)

    def both_by_hand(params, xs):
        return hand(params, xs), jnp.where(VALID[..., None], hand(params, xs), 0)

    (values, _), _ = check_equal(both, [both_by_hand], params, XS)
    weights = jax.device_get(params)
    for b, t in itertools.product(range(B), range(T)):
        h = np.asarray(XS[b, t], float)
        for name in ("hidden_0", "hidden_1"):
            kernel, bias = weights[name]["kernel"], weights[name]["bias"]
            h = [sum(h[i] * kernel[i, j] for i in range(len(h))) for j in range(len(bias))] + bias
            h = np.tanh(h)
        want = h @ weights["head"]["dense"]["kernel"] + weights["head"]["dense"]["bias"]
        np.testing.assert_allclose(values[b, t], want, rtol=1e-4, atol=1e-6)


def test_the_perceptron_reads_tokens_and_not_their_padding():
    model = models.OneToOne(layers.SoftmaxHead(2), (4,), jnp.sin, architectures.embed())
    params = params_of(model, TOKENS)
    garbage = np.where(VALID, TOKENS, V + 7)

    def run(params):
        return model.apply({"params": params}, garbage, seq_lengths=N)

    def hand(params):
        rows = params["embed"]["embedding"][TOKENS]
        ys = dense(params["head"], jnp.sin(dense(params["hidden_0"], rows)))
        return jnp.where(VALID[..., None], ys, 0)

    check_equal(run, [hand], params)
