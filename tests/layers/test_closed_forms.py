"""Linear networks are one linear map; activations have their values."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from architectures import D, H
from layer_parts import KEY, XS, B, T

from rnnjax import Elman, cells, layers, models
from rnnjax.layers import RNN, Stack


@pytest.mark.slow
def test_a_linear_network_is_one_linear_map(x64):
    """However deep: without a bend between them, matrices are one matrix."""
    xs = jax.random.normal(KEY, (B, D), jnp.float64)
    deep = models.OneToOne(layers.LinearHead(2), (5, 7, 4), cells.identity)
    variables = deep.init(KEY, xs)
    variables = jax.tree.map(lambda p: p + jax.random.normal(KEY, p.shape), variables)
    matrix, shift = jnp.eye(D), jnp.zeros(D)
    for name in ("hidden_0", "hidden_1", "hidden_2", "head"):
        layer = variables["params"][name]
        layer = layer.get("dense", layer)
        matrix, shift = matrix @ layer["kernel"], shift @ layer["kernel"] + layer["bias"]
    assert oracles.relative_error(deep.apply(variables, xs), xs @ matrix + shift) < 1e-14
    bent = deep.clone(activation_fn=jnp.tanh).apply(variables, xs)
    assert oracles.relative_error(bent, xs @ matrix + shift) > 0.1


@pytest.mark.slow
def test_a_linear_recurrent_network_is_one_linear_map(x64):
    """y_T = sum_k U^k W x_{T-k}: a weighted sum of the past, whose weights are powers of U."""
    cell = Elman(H, activation_fn=cells.identity, param_dtype=jnp.float64)
    layer = Stack([RNN(cell), RNN(cell)])
    xs = XS.astype(jnp.float64)
    variables = layer.init(KEY, xs)
    first, second = (
        layer.layers[i].cell_params(variables["params"][f"layers_{i}"]) for i in range(2)
    )
    total = jnp.zeros((B, H))
    for t in range(T):
        for s in range(t, T):  # through layer one from t to s, through layer two from s to the end
            power = jnp.linalg.matrix_power
            weight = first.input_kernel @ power(first.recurrent_kernel, s - t)
            weight = weight @ second.input_kernel @ power(second.recurrent_kernel, T - 1 - s)
            total = total + xs[:, t] @ weight
    assert oracles.relative_error(layer.apply(variables, xs)[:, -1], total) < 1e-13


@pytest.mark.parametrize(
    ("phi", "want"),
    [
        (jnp.tanh, np.tanh),
        (jax.nn.relu, lambda a: np.maximum(a, 0)),
        (jax.nn.sigmoid, lambda a: 1 / (1 + np.exp(-a))),
        (cells.identity, lambda a: a),
    ],
)
def test_activations(phi, want):
    layer = RNN(Elman(H, activation_fn=phi))
    variables = layer.init(KEY, XS)
    w, u, b = layer.cell_params(variables["params"])
    h = np.zeros((B, H))
    for t in range(T):
        h = want(np.asarray(XS[:, t]) @ w + h @ np.asarray(u) + b)
    assert oracles.relative_error(layer.apply(variables, XS)[:, -1], h) < 1e-5
