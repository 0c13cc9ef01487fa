"""The networks of other libraries, with our weights and our equations.

Each maker takes the name of one of our cells and its sizes, D and H, and returns a `Network` as
that library's users would run it. It imports the library when it is called, not before.
"""

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import rnnjax
from rnnjax import networks
from rnnjax.command_line import ArgumentError

import jax
import jax.numpy as jnp
import numpy as np

CELLS = tuple(networks.CELLS)


class Network(NamedTuple):
    """A network in pure functions of JAX arrays, and how it takes our parameters."""

    run: Callable[[Any, Any], Any]  # its weights, xs [T, B, D] -> outputs [T, B, H]
    weights: Callable[[Any], Any]  # our parameters -> its weights
    batch_major: bool = False  # xs are [B, T, D], outputs [B, T, H]


class LeftOut(Exception):  # noqa: N818
    """Why a library has no such network here."""


def check_cells(names: tuple[str, ...]) -> None:
    """Raise an ArgumentError unless `--cells` names cells, each once."""
    if not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"--cells must name some of {', '.join(CELLS)}, or {networks.OWN}, each once"
        )
    for name in names:
        try:
            networks.cell_class(name)
        except ValueError as error:
            raise ArgumentError(f"--cells {error}") from None


def import_library(name: str) -> Any:
    """Return a module of another library.

    Raises:
        LeftOut: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise LeftOut(f"{name.split('.')[0]} is not installed") from None


def parameters(name: str, input_size: int, features: int, key: Any = None, **options: Any) -> Any:
    """Draw a cell's parameters, those of a built-in one with biases that are not zero.

    Only the GRU's second bias stays zero, because one of the libraries has none.
    """
    key = jax.random.key(0) if key is None else key
    params: Any = networks.make_cell(name, features, **options).init(key, input_size)
    if name not in CELLS:
        return params
    return params._replace(bias=params.bias + 0.1 * jax.random.normal(key, params.bias.shape))


def ours(name: str, input_size: int, features: int, **options: Any) -> Network:
    """Return our own network, with options of `rnnjax.unroll`."""
    del input_size
    cell = networks.make_cell(name, features)
    return Network(lambda params, xs: rnnjax.unroll(cell, params, xs, **options)[1], lambda p: p)


def other_library(maker: Callable) -> Callable:
    """Decorate the maker of another library, which has only the built-in cells."""

    @functools.wraps(maker)
    def make(name, *sizes):
        if name not in CELLS:
            raise LeftOut(f"it has no {networks.label(name)}")
        return maker(name, *sizes)

    return make


@other_library
def linen(name: str, input_size: int, features: int) -> Network:
    """Return that of Flax Linen."""
    del input_size
    nn = import_library("flax.linen")
    kinds = {"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
    layer = nn.RNN(kinds[name](features), time_major=True)
    return Network(
        lambda weights, xs: layer.apply({"params": {"cell": weights}}, xs),
        functools.partial(_linen_weights, name),
    )


def _linen_weights(name, params):
    w, u, b = params[:3]
    if name == "elman":
        return {"i": {"kernel": w, "bias": b}, "h": {"kernel": u}}
    gates, biased = {"lstm": ("ifgo", "h"), "gru": ("rzn", "i")}[name]
    tree = {}
    for gate, *block in zip(gates, *(jnp.split(a, len(gates), -1) for a in (w, u, b)), strict=True):
        tree[f"i{gate}"], tree[f"h{gate}"] = {"kernel": block[0]}, {"kernel": block[1]}
        tree[biased + gate]["bias"] = block[2]
    if name == "gru":
        tree["hn"]["bias"] = params.recurrent_bias
    return tree


@other_library
def nnx(name: str, input_size: int, features: int) -> Network:
    """Return that of Flax NNX; its GRU has no second bias."""
    nnx = import_library("flax.nnx")
    kinds = {"elman": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}
    layer = nnx.RNN(kinds[name](input_size, features, rngs=nnx.Rngs(0)), time_major=True)
    graph, state, rest = nnx.split(layer, nnx.Param, ...)

    def run(weights, xs):
        mine = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(weights))
        return nnx.merge(graph, mine, rest, copy=True)(xs)

    def weights(params):
        biased = "dense_h" if name == "lstm" else "dense_i"
        tree = {
            "dense_i": {"kernel": params.input_kernel},
            "dense_h": {"kernel": params.recurrent_kernel},
        }
        tree[biased]["bias"] = params.bias
        return tree

    return Network(run, weights)


@other_library
def keras(name: str, input_size: int, features: int) -> Network:
    """Return that of Keras on JAX, batch-major as its layers are."""
    os.environ["KERAS_BACKEND"] = "jax"  # which Keras reads when it is first imported
    keras = import_library("keras")
    if keras.backend.backend() != "jax":
        raise LeftOut(f"Keras runs on {keras.backend.backend()} already")
    layers = keras.layers
    kinds = {"elman": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}
    layer = kinds[name](features, return_sequences=True)
    layer.build((None, None, input_size))
    rest = [variable.value for variable in layer.non_trainable_variables]

    def weights(params):
        if name != "gru":
            return list(params[:3])
        w, u, b = (_reorder(a, (1, 0, 2), 3) for a in params[:3])
        return [w, u, jnp.stack([b, _behind(params.recurrent_bias)])]

    return Network(lambda weights, xs: layer.stateless_call(weights, rest, xs)[0], weights, True)


@other_library
def equinox(name: str, input_size: int, features: int) -> Network:
    """Return that of Equinox: a scan of its cell for one sequence, vmapped over the batch."""
    eqx = import_library("equinox")
    kinds = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    if name not in kinds:
        raise LeftOut("Equinox has no such cell")
    cell = kinds[name](input_size, features, key=jax.random.key(0))

    def run(weights, xs):
        mine = eqx.tree_at(lambda c: [getattr(c, n) for n in weights], cell, [*weights.values()])

        def step(state, x):
            state = mine(x, state)
            return state, state[0] if name == "lstm" else state

        def one(xs):
            zeros = jnp.zeros(features)
            return jax.lax.scan(step, (zeros, zeros) if name == "lstm" else zeros, xs)[1]

        return jax.vmap(one, 1, 1)(xs)

    def weights(params):
        w, u, b = params[:3]
        tree = {"weight_ih": w.T, "weight_hh": u.T, "bias": b}
        return tree | ({"bias_n": params.recurrent_bias} if name == "gru" else {})

    return Network(run, weights)


@other_library
def haiku(name: str, input_size: int, features: int) -> Network:
    """Return that of Haiku: the LSTM alone, which adds 1 to the forget gate at every step."""
    hk = import_library("haiku")
    if name == "elman":
        raise LeftOut("Haiku's has a rectifier in the place of tanh")
    if name == "gru":
        raise LeftOut("Haiku's resets before the matmul")

    def unrolled(xs):
        core = hk.LSTM(features)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    def weights(params):
        w, u, b = (_reorder(a, (0, 2, 1, 3), 4) for a in params[:3])
        shift = np.repeat([0.0, 0.0, 1.0, 0.0], features).astype(np.float32)
        return {"lstm/linear": {"w": jnp.concatenate([w, u]), "b": b - shift}}

    return Network(hk.without_apply_rng(hk.transform(unrolled)).apply, weights)


MAKERS = {
    "rnnjax": ours,
    "linen": linen,
    "nnx": nnx,
    "keras": keras,
    "equinox": equinox,
    "haiku": haiku,
}


@other_library
def torch(name: str, input_size: int, features: int, params: Any) -> Any:
    """Return PyTorch's module with our parameters, on a core for each JAX device."""
    torch = import_library("torch")
    torch.set_num_threads(jax.device_count())
    kinds = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    layer = kinds[name](input_size, features)
    layer.load_state_dict(
        {key: torch.tensor(np.asarray(a)) for key, a in torch_weights(params).items()}
    )
    return layer


def torch_weights(params: Any) -> dict[str, Any]:
    """Return our parameters by PyTorch's names; of its two biases the second is zero."""
    w, u, b = params[:3]
    second = jnp.zeros_like(b)
    if isinstance(params, rnnjax.cells.GRUParams):
        second = _behind(params.recurrent_bias)
    return {"weight_ih_l0": w.T, "weight_hh_l0": u.T, "bias_ih_l0": b, "bias_hh_l0": second}


def cudnn(features: int, lstm: Callable) -> Network:
    """Return the LSTM of `jax.experimental.rnn`.

    Args:
        features: H.
        lstm: `jax.experimental.rnn.lstm`, which needs a GPU, or `without_cudnn`.
    """

    def run(weights, xs):
        batch, total, input_size = xs.shape
        zeros, steps = jnp.zeros((1, batch, features), xs.dtype), jnp.full(batch, total, jnp.int32)
        return lstm(xs, zeros, zeros, weights, steps, input_size, features, 1, 0.0, False)[0]

    def weights(params):
        return jnp.concatenate([w.ravel() for w in torch_weights(params).values()])

    return Network(run, weights, batch_major=True)


def without_cudnn(xs: Any, h: Any, c: Any, weights: Any, steps: Any, *sizes: Any) -> Any:
    """Return what `jax.experimental.rnn.lstm` returns, by that module's plain JAX."""
    from jax.experimental import rnn

    input_size, hidden_size, layers, _, both = sizes
    unpacked = rnn.unpack_lstm_weights(weights, input_size, hidden_size, layers, both)
    return rnn.lstm_ref(xs, h, c, *unpacked, steps, *sizes)


def _reorder(packed, order, gates):
    blocks = jnp.split(packed, gates, -1)
    return jnp.concatenate([blocks[i] for i in order], -1)


def _behind(recurrent_bias):
    """Return the biases of r, z and n (in either order of r and z) of which only n's is there."""
    zeros = jnp.zeros_like(recurrent_bias)
    return jnp.concatenate([zeros, zeros, recurrent_bias])
