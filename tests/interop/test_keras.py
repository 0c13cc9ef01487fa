"""Weights to and from Keras: its layers' committed numbers, round trips, and the errors."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from slow import slow_but_for

from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import LSTMP, ConvLSTM, GRUParams
from rnnjax.interop import from_keras, to_keras
from rnnjax.layers import RNN, Bidirectional, Stack

FIXTURE = Path(__file__).parents[1] / "fixtures" / "keras.npz"
T, B, D, H = 5, 2, 3, 4


def nets(dtype):
    """The nets of the fixture by name."""

    def rnn(kind, *args, reverse=False, **options):
        return RNN(kind(*args, param_dtype=dtype, **options), reverse=reverse)

    def both(kind, *args, merge_fn=None, **options):
        merge = {} if merge_fn is None else {"merge_fn": merge_fn}
        return Bidirectional(rnn(kind, *args, **options), rnn(kind, *args, **options), **merge)

    return {
        "elman_relu": rnn(Elman, H, activation_fn=jax.nn.relu),
        "lstm": rnn(LSTM, H),
        "gru": rnn(GRU, H),
        "gru_no_bias": rnn(GRU, H),
        "lstm_backwards": rnn(LSTM, H, reverse=True),
        "bidirectional_gru": both(GRU, H),
        "deep": Stack(
            [
                both(LSTM, H, merge_fn=jnp.add),
                rnn(GRU, H + 1),
                both(Elman, H),
                rnn(LSTM, 2),
            ]
        ),
        "deep_no_bias": Stack([both(LSTM, H, merge_fn=jnp.multiply), rnn(GRU, H)]),
        "conv_lstm": rnn(ConvLSTM, 2, (4, 3), kernel_size=(3, 2)),
        "conv_lstm_1d": Stack(
            [both(ConvLSTM, 2, (5,), kernel_size=3), rnn(ConvLSTM, 3, (5,), kernel_size=4)]
        ),
    }


NAMES = [*nets(jnp.float32)]


def load(name):
    """The fixture's arrays of one network, and its weights and their gradients as lists."""
    with np.load(FIXTURE) as file:
        arrays = {k.removeprefix(f"{name}/"): file[k] for k in file if k.startswith(f"{name}/")}
    count = sum(key.startswith("weights/") for key in arrays)
    lists = [[arrays[f"{what}/{i}"] for i in range(count)] for what in ("weights", "grad")]
    return arrays, *lists


def weights_of(name):
    return load(name)[1]


def as_keras(net, grads):
    """Gradients in Keras' layout, found without `rnnjax.interop`.

    Both of Keras' GRU biases enter r and z by their sum, so both have the gradient of ours.
    """
    layers = [grads[key] for key in sorted(grads)] if type(net) is Stack else [grads]
    cells = [
        part["cell"]
        for layer in layers
        for part in ([layer] if "cell" in layer else [layer["forward_rnn"], layer["backward_rnn"]])
    ]
    found = []
    for cell in cells:
        kernels = [cell["input_kernel"], cell["recurrent_kernel"], cell["bias"]]
        if "recurrent_bias" in cell:
            inside = jnp.concatenate(
                [cell["bias"][: -cell["recurrent_bias"].size], cell["recurrent_bias"]]
            )
            kernels[2] = jnp.stack([cell["bias"], inside])
            parts = [jnp.split(a, 3, axis=-1) for a in kernels]
            kernels = [jnp.concatenate([z, r, n], axis=-1) for r, z, n in parts]
        found += kernels
    return found


def told(name):
    """What must be said of a network whose weights do not tell it."""
    return {"reset_after": True} if name.endswith("no_bias") else {}


def compare(name, dtype):
    """The largest error of outputs and gradients against Keras'."""
    net, (arrays, weights, grads) = nets(dtype)[name], load(name)
    variables = from_keras(net, weights, **told(name))
    xs, weighting = (jnp.asarray(arrays[k], dtype) for k in ("xs", "weighting"))

    @jax.jit
    def values(variables, xs):
        def loss(params, xs):
            outputs = net.apply({"params": params}, xs)
            return jnp.sum(outputs * weighting), outputs

        return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], xs)

    (got, got_xs), outputs = values(variables, xs)
    ours = as_keras(net, got)
    if name.endswith("no_bias"):
        ours = [array for i, array in enumerate(ours) if i % 3 < 2]
    pairs = [(outputs, arrays["outputs"]), (got_xs, arrays["grad/xs"])]
    pairs += zip(ours, grads, strict=True)
    assert all(a.dtype == dtype for a, _ in pairs)
    return max(oracles.relative_error(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", slow_but_for(["gru", "lstm_backwards", "conv_lstm"], NAMES))
def test_outputs_and_gradients_equal_keras(name, x64):
    assert compare(name, jnp.float64) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep", "conv_lstm_1d"])
def test_outputs_and_gradients_equal_keras_in_float32(name):
    assert compare(name, jnp.float32) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_of_weights_are_the_same_network(name, x64):
    net, want = nets(jnp.float64)[name], weights_of(name)
    got = to_keras(net, from_keras(net, want, **told(name)), bias="no_bias" not in name)
    assert len(got) == len(want)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert type(a) is np.ndarray and a.dtype == np.float64 and a.flags.writeable
        assert a.shape == b.shape
        if (
            a.ndim == 2 and i % 3 == 2 and "no_bias" not in name
        ):  # the biases of a GRU, of which r and z have only a sum
            np.testing.assert_allclose(a.sum(0), b.sum(0), rtol=0, atol=1e-15)
            h = a.shape[1] // 3
            np.testing.assert_array_equal(a[:, 2 * h :], b[:, 2 * h :])
            assert not a[1, : 2 * h].any()
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_variables_of_weights_of_variables_are_the_same(name, dtype):
    net, (arrays, *_) = nets(dtype)[name], load(name)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.asarray(arrays["xs"], jnp.float32))
    rng = np.random.default_rng(0)
    want = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), shapes)
    weights = to_keras(net, want)
    assert all(array.dtype == dtype for array in weights)
    got = from_keras(net, weights)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert isinstance(a, jax.Array) and a.dtype == b.dtype == dtype
        np.testing.assert_array_equal(a, b)


def test_keras_gates_are_z_r_h():
    """z keeps the state: with z at one and everything else at zero the GRU remembers."""
    kernel, recurrent = np.zeros((D, 3 * H)), np.zeros((H, 3 * H))
    bias = np.zeros((2, 3 * H))
    bias[0, :H] = 100  # z, in Keras
    net = RNN(GRU(H))
    variables = from_keras(net, [kernel, recurrent, bias])
    carry = GRU(H).initial_carry((B,))
    carry = carry._replace(h=carry.h + 0.3)
    outputs = net.apply(variables, jnp.ones((B, T, D)), initial_carry=carry)
    np.testing.assert_allclose(outputs, 0.3, rtol=1e-6)
    assert isinstance(net.cell_params(variables["params"]), GRUParams)


LSTM_WEIGHTS, GRU_WEIGHTS = weights_of("lstm"), weights_of("gru")
BAD_WEIGHTS = {
    "too few": (
        RNN(LSTM(H)),
        LSTM_WEIGHTS[:1],
        "weights must hold 3 arrays, a kernel, a recurrent kernel and a bias for its layer, or 2 "
        "without biases; got 1",
    ),
    "a head too": (
        Stack([RNN(LSTM(H)), Bidirectional(RNN(LSTM(H)), RNN(LSTM(H)))]),
        [*LSTM_WEIGHTS, np.zeros((H, 2)), np.zeros(2)],
        "weights must hold 9 arrays, a kernel, a recurrent kernel and a bias for each of its 3 "
        "layers and directions, or 6 without biases; got 5",
    ),
    "another cell": (
        RNN(GRU(H)),
        LSTM_WEIGHTS,
        "weights[0], a kernel, must have shape (3, 12) in GRU(features=4), got (3, 16)",
    ),
    "another width": (
        RNN(LSTM(H)),
        [LSTM_WEIGHTS[0], np.zeros((5, 16)), LSTM_WEIGHTS[2]],
        "weights[1], a recurrent kernel, must have shape (4, 16) in LSTM(features=4), got (5, 16)",
    ),
    "another second layer": (
        Stack([RNN(LSTM(H)), RNN(Elman(2))]),
        [*LSTM_WEIGHTS, np.zeros((5, 2)), np.zeros((2, 2)), np.zeros(2)],
        "weights[3], a kernel, must have shape (4, 2) in Elman(features=2, tanh), got (5, 2)",
    ),
    "no matrix": (
        RNN(Elman(H)),
        [np.zeros(())] * 3,
        "weights[0], a kernel, must have shape (1, 4) in Elman(features=4, tanh), got ()",
    ),
    "reset before": (
        RNN(GRU(H)),
        [*GRU_WEIGHTS[:2], np.zeros(3 * H)],
        "weights[2], a bias, has one axis, so the layer has reset_after=False and resets before "
        "the recurrent matmul; GRU resets after it, as with reset_after=True",
    ),
    "another image kernel": (
        RNN(ConvLSTM(2, (4, 3))),
        weights_of("conv_lstm"),
        "weights[0], a kernel, must have shape (3, 3, 3, 8) in ConvLSTM(features=2, "
        "spatial_shape=(4, 3), kernel_size=(3, 3)), got (3, 2, 3, 8)",
    ),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_of_another_network_are_refused(case):
    net, weights, message = BAD_WEIGHTS[case]
    with pytest.raises(ValueError) as error:
        from_keras(net, weights)
    assert str(error.value) == message


def test_integers_are_refused():
    weights = [*LSTM_WEIGHTS[:2], np.zeros(16, np.int8)]
    with pytest.raises(TypeError, match=r"weights\[2\], a bias, must be of a floating type"):
        from_keras(RNN(LSTM(H)), weights)


BAD_NETS = {
    "projection": (
        RNN(LSTMP(H, 2)),
        TypeError,
        "cell must be Elman, LSTM, GRU or ConvLSTM, got LSTMP",
    ),
    "merge": (
        Bidirectional(RNN(LSTM(H)), RNN(LSTM(H)), merge_fn=jnp.maximum),
        ValueError,
        "merge_fn must be concatenate, jnp.add or jnp.multiply, got ",
    ),
    "residual": (
        Stack([RNN(LSTM(H)), RNN(LSTM(H))], residual=True),
        ValueError,
        "residual must be False: Keras has no residual layers",
    ),
    "backwards": (
        Bidirectional(RNN(LSTM(H), reverse=True), RNN(LSTM(H))),
        ValueError,
        "forward_rnn must not have reverse: Keras' forward layer has not",
    ),
    "initial state": (
        RNN(LSTM(H), initial_carry_init=jax.nn.initializers.zeros),
        ValueError,
        "initial_carry_init must be None: Keras learns no initial state",
    ),
}


@pytest.mark.parametrize("case", BAD_NETS)
def test_a_net_that_keras_does_not_have_is_refused(case):
    net, kind, message = BAD_NETS[case]
    for convert, nothing in ((from_keras, []), (to_keras, {})):
        with pytest.raises(kind) as error:
            convert(net, nothing)
        got = str(error.value)
        assert got.startswith(message) if message.endswith(" ") else got == message


def test_biases_that_are_not_zero_are_not_left_out():
    net = RNN(GRU(H))
    with pytest.raises(ValueError) as error:
        to_keras(net, from_keras(net, GRU_WEIGHTS), bias=False)
    assert str(error.value) == "biases must be zero for bias=False; those of cell are not"


def test_a_gru_without_biases_must_be_told_where_it_resets():
    net = RNN(GRU(H))
    with pytest.raises(ValueError, match="do not tell where it resets; pass reset_after=True"):
        from_keras(net, GRU_WEIGHTS[:2])
    with pytest.raises(ValueError, match="GRU resets after it, as with reset_after=True"):
        from_keras(net, GRU_WEIGHTS[:2], reset_after=False)
    got = from_keras(net, GRU_WEIGHTS[:2], reset_after=True)
    assert not got["params"]["cell"]["bias"].any()


def test_nothing_imports_keras_and_a_layer_is_not_a_list():
    code = """
import sys, rnnjax.interop
from rnnjax.layers import RNN
for weights in (rnnjax.LSTM(4), {}, "lstm.weights.h5"):
    try:
        rnnjax.interop.from_keras(RNN(rnnjax.LSTM(4)), weights)
    except TypeError as error:
        print(error, 'keras' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    want = "weights must be the list that get_weights() returns, got {} False\n"
    assert done.stdout == "".join(want.format(kind) for kind in ("LSTM", "dict", "str"))
    assert done.stderr == ""
