"""Weights to and from PyTorch: its networks' committed numbers, round trips, and the errors."""

import itertools
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from slow import slow_but_for

from rnnjax import GRU, LSTM, Elman
from rnnjax.cells import (
    LSTMP,
    GatedParams,
    GRUParams,
    LayerNorm,
    LSTMPCarry,
    VariationalDropout,
    Zoneout,
)
from rnnjax.interop import from_torch, to_torch
from rnnjax.layers import (
    RNN,
    Bidirectional,
    BidirectionalCarry,
    Stack,
    bidirectional,
    concatenate,
)

FIXTURE = Path(__file__).parents[1] / "fixtures" / "pytorch_layers.npz"
T, B, D, H = 7, 2, 3, 4
CELLS = {
    "elman": Elman,
    "elman_relu": lambda *a, **k: Elman(*a, activation_fn=jax.nn.relu, **k),
    "lstm": LSTM,
    "gru": GRU,
}
SHAPES = [
    "1/forward/bias",
    "1/bidirectional/bias",
    "2/bidirectional/bias",
    "2/bidirectional/no_bias",
    "3/forward/no_bias",
]
EVERY_NETWORK = [f"{kind}/{shape}" for kind, shape in itertools.product(CELLS, SHAPES)]


def load(name):
    """The fixture's arrays of one network by their names."""
    with np.load(FIXTURE) as file:
        return {k.removeprefix(f"{name}/"): file[k] for k in file.files if k.startswith(f"{name}/")}


def below(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def state_of(name):
    return below(load(name), "state/")


def build(name, dtype=jnp.float32):
    """The net of a fixture's name."""
    kind, layers, directions, _ = name.split("/")
    cell = CELLS[kind](H, param_dtype=dtype)
    two = directions == "bidirectional"
    each = [Bidirectional(RNN(cell), RNN(cell)) if two else RNN(cell) for _ in range(int(layers))]
    return Stack(each) if len(each) > 1 else each[0]


def pytree(named):
    """Return a cell's parameters as the cell has them, a named tuple."""
    return (GRUParams if "recurrent_bias" in named else GatedParams)(**named)


def by_suffix(name, params):
    """The cells' parameters by what PyTorch's keys end with, found without `rnnjax.interop`."""
    _, layers, directions, _ = name.split("/")
    found = {}
    for i in range(int(layers)):
        layer = params[f"layers_{i}"] if int(layers) > 1 else params
        if directions == "forward":
            found[f"l{i}"] = pytree(layer["cell"])
        else:
            found[f"l{i}"] = pytree(layer["forward_rnn"]["cell"])
            found[f"l{i}_reverse"] = pytree(layer["backward_rnn"]["cell"])
    return found


def run(name, arrays, want, dtype, **options):
    """The largest error of outputs, final states and gradients against PyTorch's."""
    net = build(name, dtype)
    variables = from_torch(net, below(arrays, "state/"))
    xs, weights = (jnp.asarray(arrays[k], dtype) for k in ("xs", "weights"))

    @jax.jit
    def values(variables, xs):
        def loss(params, xs):
            carry, outputs = net.apply(
                {"params": params}, xs, time_major=True, return_carry=True, **options
            )
            total = jnp.sum(outputs * weights) + sum(map(jnp.sum, jax.tree.leaves(carry)))
            return total, (carry, outputs)

        return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], xs)

    (grads, grad_xs), (carry, outputs) = values(variables, xs)
    states = jax.tree.leaves(carry, is_leaf=lambda c: hasattr(c, "h"))
    got = {"outputs": outputs, "grad/xs": grad_xs}
    for field in states[0]._fields:
        got[f"final_{field}"] = jnp.stack([getattr(state, field) for state in states])
    for suffix, grad in by_suffix(name, grads).items():
        got[f"grad/weight_ih_{suffix}"] = grad.input_kernel.T
        got[f"grad/weight_hh_{suffix}"] = grad.recurrent_kernel.T
        # The gradient of our bias is that of either of PyTorch's two, except in the n gate.
        got[f"grad/bias_ih_{suffix}"] = got[f"grad/bias_hh_{suffix}"] = grad.bias
        if name.startswith("gru"):
            hidden = jnp.concatenate([grad.bias[: 2 * H], grad.recurrent_bias])
            got[f"grad/bias_hh_{suffix}"] = hidden
    if name.endswith("no_bias"):
        got = {key: value for key, value in got.items() if "bias" not in key}
    assert set(got) == set(want)
    assert all(value.dtype == dtype for value in got.values())
    return max(oracles.relative_error(got[key], want[key]) for key in want)


def results(arrays):
    return {k: v for k, v in arrays.items() if k.startswith(("outputs", "final_", "grad/"))}


@pytest.mark.parametrize("name", slow_but_for([*EVERY_NETWORK][::3], [*EVERY_NETWORK]))
def test_outputs_and_gradients_equal_pytorch(name, x64):
    arrays = load(name)
    assert run(name, arrays, results(arrays), jnp.float64) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_outputs_and_gradients_equal_pytorch_in_float32(kind):
    name = f"{kind}/2/bidirectional/bias"
    arrays = load(name)
    assert run(name, arrays, results(arrays), jnp.float32) < 1e-5


PROJECTIONS = Path(__file__).parents[1] / "fixtures" / "pytorch_projections.npz"
PROJECTED = ["1/forward/bias", "1/forward/no_bias", "2/bidirectional/bias", "3/forward/bias"]


def projected(name, dtype=jnp.float32):
    """The net and the arrays of a network with projections."""
    with np.load(PROJECTIONS) as file:
        arrays = {k.removeprefix(f"{name}/"): file[k] for k in file if k.startswith(f"{name}/")}
    layers, directions, _ = name.split("/")
    make = bidirectional if directions == "bidirectional" else RNN
    each = [make(LSTMP(5, 2, param_dtype=dtype)) for _ in range(int(layers))]
    return Stack(each) if len(each) > 1 else each[0], arrays


@pytest.mark.parametrize("name", slow_but_for(PROJECTED[:1], PROJECTED))
def test_projections_equal_pytorch(name, x64):
    net, arrays = projected(name, jnp.float64)
    variables = from_torch(net, below(arrays, "state/"))
    xs, weights = (jnp.asarray(arrays[key]) for key in ("xs", "weights"))
    start = [LSTMPCarry(c, h) for c, h in zip(arrays["c0"], arrays["h0"], strict=True)]
    if "bidirectional" in name:
        start = [BidirectionalCarry(*pair) for pair in zip(start[::2], start[1::2], strict=True)]
    start = start if type(net) is Stack else start[0]

    @jax.jit
    def values(variables, xs, start):
        def loss(variables, xs, start):
            carry, outputs = net.apply(
                variables, xs, initial_carry=start, time_major=True, return_carry=True
            )
            total = jnp.sum(outputs * weights) + sum(map(jnp.sum, jax.tree.leaves(carry)))
            return total, (carry, outputs)

        return jax.grad(loss, (0, 1, 2), has_aux=True)(variables, xs, start)

    (grads, grad_xs, grad_start), (carry, outputs) = values(variables, xs, start)
    # The gradient of our bias is that of either of PyTorch's two.
    got = {f"grad/{key}": array for key, array in to_torch(net, grads).items()}
    got = {key: array for key, array in got.items() if key in arrays and "bias_hh" not in key}
    got |= {"outputs": outputs, "grad/xs": grad_xs}
    for prefix, end, tree in (("final_", "", carry), ("grad/", "0", grad_start)):
        states = jax.tree.leaves(tree, is_leaf=lambda c: isinstance(c, LSTMPCarry))
        for field in LSTMPCarry._fields:
            got[f"{prefix}{field}{end}"] = jnp.stack([getattr(s, field) for s in states])
    want = {k: v for k, v in arrays.items() if k.startswith(("outputs", "final_", "grad/"))}
    want = {key: value for key, value in want.items() if "bias_hh" not in key}
    assert set(got) == set(want)
    assert max(oracles.relative_error(got[key], want[key]) for key in want) < 1e-12


@pytest.mark.parametrize("name", PROJECTED)
def test_the_state_dict_of_projections_is_the_same_network(name, x64):
    net, arrays = projected(name, jnp.float64)
    state = below(arrays, "state/")
    back = to_torch(net, from_torch(net, state), bias="no_bias" not in name)
    assert list(back) == list(state)
    for key, array in back.items():
        assert array.shape == state[key].shape and array.flags.c_contiguous
        if key.startswith("weight"):
            np.testing.assert_array_equal(array, state[key])
        elif key.startswith("bias_ih"):
            np.testing.assert_array_equal(array, state[key] + state[key.replace("ih", "hh")])


def test_a_projection_of_another_width_is_refused():
    net, arrays = projected("1/forward/bias")
    state = below(arrays, "state/")
    with pytest.raises(ValueError) as error:
        from_torch(RNN(LSTMP(5, 3)), state)
    assert str(error.value) == (
        "weight_hh_l0 must have shape (20, 3) in LSTMP(features=5, proj_size=3), got (20, 2)"
    )
    with pytest.raises(ValueError) as error:
        from_torch(net, without(state, "weight_hr_l0"))
    assert str(error.value) == (
        "state_dict must have 5 keys, weight_ih_l0 to weight_hr_l0; missing: weight_hr_l0"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_lengths_equal_pytorch_packed_sequences(kind, x64):
    name = f"{kind}/2/bidirectional/bias"
    with np.load(FIXTURE) as file:
        lengths = file["lengths"]
    arrays = load(name)
    want = below(arrays, "packed/")
    assert run(name, arrays, want, jnp.float64, seq_lengths=lengths) < 1e-12


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_the_state_dict_of_a_state_dict_is_the_same_network(name, x64):
    state, net = state_of(name), build(name, jnp.float64)
    back = to_torch(net, from_torch(net, state), bias="no_bias" not in name)
    assert list(back) == list(state)
    for key, array in back.items():
        assert type(array) is np.ndarray and array.dtype == np.float64
        assert array.shape == state[key].shape
        assert array.flags.c_contiguous and array.flags.writeable  # as torch.from_numpy needs
        if key.startswith("weight"):
            np.testing.assert_array_equal(array, state[key])
        elif key.startswith("bias_ih"):
            other = key.replace("ih", "hh")
            rows = slice(2 * H if name.startswith("gru") else None)
            total = (state[key] + state[other])[rows]
            np.testing.assert_array_equal((array + back[other])[rows], total)
            if name.startswith("gru"):
                np.testing.assert_array_equal(array[2 * H :], state[key][2 * H :])
                np.testing.assert_array_equal(back[other][2 * H :], state[other][2 * H :])
            assert not back[other][rows].any()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", CELLS)
def test_variables_of_a_state_dict_of_variables_are_the_same(kind, dtype):
    for shape in SHAPES:
        net = build(f"{kind}/{shape}", dtype)
        shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((B, T, D)))
        rng = np.random.default_rng(0)
        want = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), shapes)  # noqa: B023
        state = to_torch(net, want)
        assert all(array.dtype == dtype for array in state.values())
        got = from_torch(net, state)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert isinstance(a, jax.Array) and a.dtype == b.dtype == dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_variables_are_built_as_init_builds_them(name):
    net = build(name)
    want = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((B, T, D)))
    got = from_torch(net, state_of(name))
    assert jax.tree.structure(got) == jax.tree.structure(want)
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)


def test_options_of_a_net_that_leave_its_weights_alone_are_allowed():
    cell, state = LSTM(H, dtype=jnp.bfloat16, forget_bias=3.0), state_of("lstm/3/forward/no_bias")
    layers = [
        RNN(cell, time_major=True, checkpoint_every=2),
        RNN(LSTM(H), truncate_every=3),
        RNN(LSTM(H), return_carry=True),
    ]
    net = Stack(layers, dropout_rate=0.5, return_carry=True)
    got, plain = from_torch(net, state), from_torch(build("lstm/3/forward/no_bias"), state)
    jax.tree.map(np.testing.assert_array_equal, got, plain)
    back = Bidirectional(RNN(GRU(H)), RNN(GRU(H), reverse=True), merge_fn=concatenate)
    from_torch(back, state_of("gru/1/bidirectional/bias"))


class Tensor:
    """What a PyTorch tensor is to us: on a device, with a gradient, in a type NumPy may lack."""

    def __init__(self, array, steps=()):
        self.array, self.steps = array, steps

    def detach(self):
        return Tensor(self.array, (*self.steps, "detach"))

    def cpu(self):
        return Tensor(self.array, (*self.steps, "cpu"))

    def float(self):
        return Tensor(self.array.astype(np.float32), self.steps)

    def numpy(self):
        assert self.steps == ("detach", "cpu")
        if self.array.dtype == jnp.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_tensors_of_any_floating_type_are_taken(dtype):
    name = "gru/2/bidirectional/bias"
    net, state = build(name), {k: v.astype(dtype) for k, v in state_of(name).items()}
    want = from_torch(net, {k: v.astype(np.float64) for k, v in state.items()})
    for given in (state, {k: Tensor(v) for k, v in state.items()}):
        got = from_torch(net, given)
        jax.tree.map(np.testing.assert_array_equal, got, want)
        assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(got))


def test_variables_keep_their_numbers_when_the_state_dict_changes():
    net, state = build("elman/1/forward/bias"), state_of("elman/1/forward/bias")
    state = {k: v.astype(np.float32) for k, v in state.items()}
    variables = from_torch(net, state)
    want = jax.tree.map(np.array, variables)
    state["weight_ih_l0"][:] = np.nan
    to_torch(net, variables)["weight_hh_l0"][:] = np.nan
    jax.tree.map(np.testing.assert_array_equal, variables, want)


def without(state, *keys):
    return {k: v for k, v in state.items() if k not in keys}


LAYERS = state_of("lstm/2/bidirectional/bias")
ONE = state_of("lstm/1/forward/bias")
BAD_STATES = {
    "missing": (
        "lstm/1/forward/bias",
        without(ONE, "weight_hh_l0"),
        "state_dict must have 4 keys, weight_ih_l0 to bias_hh_l0; missing: weight_hh_l0",
    ),
    "one bias": (
        "lstm/1/forward/bias",
        without(ONE, "bias_hh_l0"),
        "state_dict must have 4 keys, weight_ih_l0 to bias_hh_l0; missing: bias_hh_l0",
    ),
    "fewer layers": (
        "lstm/1/bidirectional/bias",
        LAYERS,
        "state_dict must have 8 keys, weight_ih_l0 to bias_hh_l0_reverse; left over: weight_ih_l1, "
        "weight_hh_l1, bias_ih_l1, bias_hh_l1 and 4 more",
    ),
    "fewer directions": (
        "lstm/1/forward/bias",
        state_of("lstm/1/bidirectional/bias"),
        "state_dict must have 4 keys, weight_ih_l0 to bias_hh_l0; left over: "
        "weight_ih_l0_reverse, weight_hh_l0_reverse, bias_ih_l0_reverse, bias_hh_l0_reverse",
    ),
    "prefixed": (
        "lstm/1/forward/bias",
        {f"rnn.{k}": v for k, v in ONE.items()},
        "state_dict must have 2 keys, weight_ih_l0 to weight_hh_l0; missing: weight_ih_l0, "
        "weight_hh_l0; left over: rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, "
        "rnn.bias_hh_l0",
    ),
    "another cell": (
        "gru/1/forward/bias",
        ONE,
        "weight_ih_l0 must have shape (12, 3) in GRU(features=4), got (16, 3)",
    ),
    "another width": (
        "lstm/1/forward/bias",
        ONE | {"weight_hh_l0": np.zeros((16, 5))},
        "weight_hh_l0 must have shape (16, 4) in LSTM(features=4), got (16, 5)",
    ),
    "no matrix": (
        "elman/1/forward/bias",
        {k: np.zeros(()) for k in ONE},
        "weight_ih_l0 must have shape (4, 1) in Elman(features=4, tanh), got ()",
    ),
    "another bias": (
        "lstm/1/forward/bias",
        ONE | {"bias_hh_l0": np.zeros(1)},
        "bias_hh_l0 must have shape (16,) in LSTM(features=4), got (1,)",
    ),
    "inputs of the second direction": (
        "lstm/2/bidirectional/bias",
        LAYERS | {"weight_ih_l0_reverse": np.zeros((16, 5))},
        "weight_ih_l0_reverse must have shape (16, 3) in LSTM(features=4), got (16, 5)",
    ),
    "inputs of the second layer": (
        "lstm/2/bidirectional/bias",
        LAYERS | {"weight_ih_l1": np.zeros((16, 4))},
        "weight_ih_l1 must have shape (16, 8) in LSTM(features=4), got (16, 4)",
    ),
    "projection": (
        "lstm/1/forward/bias",
        ONE | {"weight_hr_l0": np.zeros((2, 4))},
        "weight_hr_l0: the network has projections (proj_size); its cell is LSTMP(features, "
        "proj_size), got LSTM(features=4)",
    ),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_dict_of_another_network_is_refused(case):
    name, state, message = BAD_STATES[case]
    with pytest.raises(ValueError) as error:
        from_torch(build(name), state)
    assert str(error.value) == message


def test_integers_are_refused():
    with pytest.raises(TypeError) as error:
        from_torch(build("lstm/1/forward/bias"), ONE | {"bias_ih_l0": np.zeros(16, np.int8)})
    assert str(error.value) == "bias_ih_l0 must be of a floating type, got int8"


def lstm(**options):
    return RNN(LSTM(H), **options)


class Mine(LSTM):
    """A cell of one's own, whatever it computes."""


SHARED = RNN(LSTM(H))
BAD_NETS = {
    "wide projection": (
        RNN(LSTMP(H, H)),
        ValueError,
        "proj_size must be smaller than features = 4, as PyTorch's is; got 4",
    ),
    "projections": (
        Stack([RNN(LSTMP(H, 2)), RNN(LSTMP(H, 3))]),
        ValueError,
        "cells must be all alike, as PyTorch's are; got LSTMP(features=4, proj_size=2), "
        "LSTMP(features=4, proj_size=3)",
    ),
    "wrapped": (
        RNN(Zoneout(LSTM(H), 0.1)),
        TypeError,
        "cell must be Elman, LSTM, LSTMP or GRU, got Zoneout",
    ),
    "normalised": (
        Stack([lstm(), RNN(LayerNorm(LSTM(H)))]),
        TypeError,
        "cell must be Elman, LSTM, LSTMP or GRU, got LayerNorm",
    ),
    "dropout": (
        Bidirectional(lstm(), RNN(VariationalDropout(LSTM(H), 0.1))),
        TypeError,
        "cell must be Elman, LSTM, LSTMP or GRU, got VariationalDropout",
    ),
    "subclass": (RNN(Mine(H)), TypeError, "cell must be Elman, LSTM, LSTMP or GRU, got Mine"),
    "no recurrence": (
        nn.Dense(H),
        TypeError,
        "net must be RNN, Bidirectional of two RNN, or Stack of either; got Dense",
    ),
    "a stack in a stack": (
        Stack([Stack([lstm()])]),
        TypeError,
        "net must be RNN, Bidirectional of two RNN, or Stack of either; got Stack",
    ),
    "stacks in two directions": (
        Bidirectional(Stack([lstm()]), Stack([lstm()])),
        TypeError,
        "net must be RNN, Bidirectional of two RNN, or Stack of either; got Stack",
    ),
    "empty": (Stack([]), ValueError, "layers must hold at least one layer, got none"),
    "kinds": (
        Stack([lstm(), RNN(GRU(H))]),
        ValueError,
        "cells must be all alike, as PyTorch's are; got LSTM(features=4), GRU(features=4)",
    ),
    "widths": (
        Bidirectional(lstm(), RNN(LSTM(H + 1))),
        ValueError,
        "cells must be all alike, as PyTorch's are; got LSTM(features=4), LSTM(features=5)",
    ),
    "activations": (
        Stack([RNN(Elman(H)), RNN(Elman(H, activation_fn=jax.nn.relu))]),
        ValueError,
        "cells must be all alike, as PyTorch's are; got Elman(features=4, tanh), "
        "Elman(features=4, relu)",
    ),
    "activation": (
        RNN(Elman(H, activation_fn=jnp.sin)),
        ValueError,
        "activation_fn must be jnp.tanh or jax.nn.relu, got ",
    ),
    "directions": (
        Stack([lstm(), Bidirectional(lstm(), lstm())]),
        ValueError,
        "layers must be all RNN or all Bidirectional, as PyTorch's are",
    ),
    "residual": (
        Stack([lstm(), lstm()], residual=True),
        ValueError,
        "residual must be False: PyTorch has no residual layers",
    ),
    "merge": (
        Bidirectional(lstm(), lstm(), merge_fn=jnp.add),
        ValueError,
        "merge_fn must be concatenate, got ",
    ),
    "initial state": (
        Stack([lstm(), lstm(initial_carry_init=nn.initializers.zeros)]),
        ValueError,
        "initial_carry_init must be None: PyTorch learns no initial state",
    ),
    "backwards": (
        Bidirectional(lstm(reverse=True), lstm()),
        ValueError,
        "reverse must be False: PyTorch reads backwards in Bidirectional only",
    ),
    "shared": (
        Stack([SHARED, SHARED]),
        ValueError,
        "each layer and direction must have weights of its own",
    ),
}


@pytest.mark.parametrize("case", BAD_NETS)
def test_a_net_that_pytorch_does_not_have_is_refused(case):
    net, kind, message = BAD_NETS[case]
    for convert in (from_torch, to_torch):
        with pytest.raises(kind) as error:
            convert(net, {})
        got = str(error.value)
        assert got.startswith(message) if message.endswith(" ") else got == message
        assert "\n" not in got


def test_variables_of_another_net_are_refused():
    def refused(name, variables, kind=ValueError, **options):
        with pytest.raises(kind) as error:
            to_torch(build(name), variables, **options)
        return str(error.value)

    one, two = "lstm/1/forward/bias", "gru/2/bidirectional/bias"
    variables = from_torch(build(two), state_of(two))
    params = variables["params"]
    assert refused(two, params) == (
        "variables['params'] must have 16 keys, layers_0/forward_rnn/cell/input_kernel to "
        "layers_1/backward_rnn/cell/recurrent_bias; missing: layers_0/forward_rnn/cell/input_kernel"
        ", layers_0/forward_rnn/cell/recurrent_kernel, layers_0/forward_rnn/cell/bias, "
        "layers_0/forward_rnn/cell/recurrent_bias and 12 more"
    )
    more = {"params": params["layers_0"] | {"more": {"kernel": np.zeros(1)}}}
    assert refused(two.replace("2", "1"), more) == (
        "variables['params'] must have 8 keys, forward_rnn/cell/input_kernel to "
        "backward_rnn/cell/recurrent_bias; left over: more/kernel"
    )
    cell = from_torch(build(one), ONE)["params"]["cell"]
    wide = cell | {"recurrent_kernel": np.zeros((5, 16))}
    assert refused(one, {"params": {"cell": wide}}) == (
        "cell/recurrent_kernel must have shape (4, 16) in LSTM(features=4), got (5, 16)"
    )
    assert refused(one.replace("lstm", "gru"), {"params": {"cell": cell}}) == (
        "variables['params'] must have 4 keys, cell/input_kernel to cell/recurrent_bias; missing: "
        "cell/recurrent_bias"
    )
    assert refused(one, {"params": {"cell": cell}}, bias=False) == (
        "biases must be zero for bias=False; those of cell are not"
    )
    gru = params["layers_0"]["forward_rnn"]["cell"]
    only_inside = {"params": {"cell": gru | {"bias": np.zeros_like(gru["bias"])}}}
    assert "must be zero" in refused(one.replace("lstm", "gru"), only_inside, bias=False)
    longer = {"params": {"cell": gru | {"recurrent_bias": np.zeros(H + 1)}}}
    assert refused(one.replace("lstm", "gru"), longer) == (
        "cell/recurrent_bias must have shape (4,) in GRU(features=4), got (5,)"
    )


def test_nothing_imports_torch_and_a_module_is_not_a_state_dict():
    code = """
import sys, rnnjax.interop
from rnnjax.layers import RNN
try:
    rnnjax.interop.from_torch(RNN(rnnjax.LSTM(4)), rnnjax.LSTM(4))
except TypeError as error:
    print(error, 'torch' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    want = "state_dict must be what state_dict() of a module returns, got LSTM False\n"
    assert (done.stdout, done.stderr) == (want, "")
