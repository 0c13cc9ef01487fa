"""Residual blocks against the same sums in NumPy, step by step, and as layers like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import relative_error

from rnnjax import GRU, LSTM, Elman, cells, layers, networks
from rnnjax.layers import RNN, Bidirectional, LinearHead, ResidualBlock, ResidualStack, residual
from rnnjax.models import ManyToMany, ManyToOne

KEY = jax.random.key(0)
B, T, D, H = 3, 5, 3, 6
XS = jax.random.normal(KEY, (B, T, D))
LENGTHS = np.array([T, 2, 0])


def drawn(layer, xs=XS):
    """Return the layer's parameters with every entry drawn, so that scales and biases count."""
    params = layer.init(KEY, xs)["params"]
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return structure.unflatten([p + 0.3 * jax.random.normal(k, p.shape) for p, k in pairs])


def rms(x, scale):
    return x / np.sqrt(np.mean(x**2) + 1e-6) * scale


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def by_hand(params, sequence):
    """Return the outputs of two residual blocks of an Elman network for one sequence."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    states = [np.zeros(H), np.zeros(H)]
    outputs = []
    for x in np.asarray(sequence, np.float64):
        x = x @ p["embed"]["kernel"] + p["embed"]["bias"]
        for i in range(2):
            block, cell = p[f"block_{i}"], p[f"layers_{i}"]["cell"]
            u = rms(x, block["layer_norm"]["scale"]) @ cell["input_kernel"] + cell["bias"]
            states[i] = np.tanh(u + states[i] @ cell["recurrent_kernel"])
            x = x + states[i] @ block["output"]["kernel"]
            normed = rms(x, block["mlp_norm"]["scale"])
            gate = gelu(normed @ block["mlp_gate"]["kernel"])
            x = x + (gate * (normed @ block["mlp_up"]["kernel"])) @ block["mlp_down"]["kernel"]
        outputs.append(rms(x, p["norm"]["scale"]))
    return np.array(outputs)


def test_outputs_are_those_of_the_sums_written_out():
    network = residual(Elman(H), num_layers=2)
    params = drawn(network)
    ys = network.apply({"params": params}, XS, seq_lengths=LENGTHS)
    for b, n in enumerate(LENGTHS):
        if n:
            assert relative_error(ys[b, :n], by_hand(params, XS[b, :n])) < 1e-5
        assert (np.asarray(ys[b, n:]) == 0).all()


def test_one_line_is_the_network_built_by_hand():
    line = residual(GRU(H), 2, 8, mlp_dim=7, dropout_rate=0.1, unroll=2)
    hand = ResidualStack([RNN(GRU(H), unroll=2)] * 2, 8, 7, dropout_rate=0.1)
    assert hash(line) == hash(hand) and line == hand
    assert residual(GRU(H), 1).features == H
    params = residual(GRU(H), 1).init(KEY, XS)["params"]["block_0"]
    assert params["mlp_gate"]["kernel"].shape == (H, 16)  # 8 H / 3


def test_a_sequence_may_be_read_in_parts_and_by_single_steps():
    network = residual(cells.MinGRU(H), 2)
    params = {"params": drawn(network)}
    carry, whole = network.apply(params, XS, return_carry=True)
    first, ahead = network.apply(params, XS[:, :2], return_carry=True)
    last, behind = network.apply(params, XS[:, 2:], initial_carry=first, return_carry=True)
    assert relative_error(jnp.concatenate([ahead, behind], axis=1), whole) < 1e-5
    assert relative_error(last, carry) < 1e-5
    model = ManyToMany(network, LinearHead(2))
    variables = model.init(KEY, XS)
    state = network.start_carry((B,))
    for t in range(T):
        state, y = model.apply(variables, state, XS[:, t], method="step")
    assert relative_error(y, model.apply(variables, XS)[:, -1]) < 1e-5


@pytest.mark.slow
def test_padding_and_masked_steps_reach_neither_values_nor_gradients():
    network = residual(LSTM(H), 2)
    params = drawn(network)
    mask = jnp.array([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)

    def gradients(xs, **options):
        def loss(params, xs):
            ys = network.apply({"params": params}, xs, **options)
            return jnp.sum(ys * jnp.cos(jnp.arange(ys.size).reshape(ys.shape))), ys

        return jax.grad(loss, (0, 1), has_aux=True)(params, xs)

    for known, options in (
        (jnp.arange(T) < LENGTHS[:, None], {"seq_lengths": LENGTHS}),
        (mask, {"mask": mask}),
    ):
        want = gradients(jnp.where(known[..., None], XS, 0), **options)
        got = gradients(jnp.where(known[..., None], XS, jnp.nan), **options)
        assert relative_error(got, want) == 0
    alone = network.apply({"params": params}, XS[:1, jnp.array([0, 1, 3, 4])])
    ys = network.apply({"params": params}, XS[:1], mask=mask[:1])
    assert relative_error(ys[:, jnp.array([0, 1, 3, 4])], alone) < 1e-5
    turned = network.apply({"params": params}, jnp.moveaxis(XS, 1, 0), time_major=True)
    ys = network.apply({"params": params}, XS)
    assert relative_error(jnp.moveaxis(turned, 0, 1), ys) < 1e-6


def test_an_answer_is_read_from_each_sequences_own_end():
    model = ManyToOne(residual(Elman(H), 2), LinearHead(H))
    params = drawn(model)
    ys = model.apply({"params": params}, XS, seq_lengths=LENGTHS)
    head = jax.tree.map(np.asarray, params["head"]["dense"])
    for b, n in enumerate(LENGTHS[:2]):
        last = by_hand(params["layer"], XS[b, :n])[-1]
        assert relative_error(ys[b], last @ head["kernel"] + head["bias"]) < 1e-5


@pytest.mark.slow
def test_dropout_is_drawn_on_both_sums_and_only_with_a_key():
    network = residual(Elman(H), 1, dropout_rate=0.5)
    params = {"params": drawn(network)}
    quiet = network.apply(params, XS)
    noisy = [network.apply(params, XS, rngs={"dropout": jax.random.key(k)}) for k in (0, 0, 1)]
    assert (noisy[0] == noisy[1]).all() and (noisy[0] != noisy[2]).any()
    assert (quiet != noisy[0]).any()
    deterministic = network.apply(params, XS, rngs={"dropout": KEY}, deterministic=True)
    assert (quiet == deterministic).all()


def test_around_two_directions_and_a_convolution():
    both = ResidualBlock(Bidirectional(RNN(GRU(H)), RNN(GRU(H))))
    stack = ResidualStack([Bidirectional(RNN(GRU(H)), RNN(GRU(H)))], 4)
    for layer, width in ((both, D), (stack, 4), (ResidualBlock(layers.TCN(4)), D)):
        ys, _ = jax.eval_shape(lambda n=layer: n.init_with_output(KEY, XS, seq_lengths=LENGTHS))
        assert ys.shape == (B, T, width)
    with pytest.raises(ValueError, match="reads from the end has no last state"):
        jax.eval_shape(lambda: ManyToOne(stack, LinearHead(1)).init(KEY, XS))


def test_it_is_a_network_by_name():
    layer = networks.network("residual_mingru", 8, window=9)
    assert layer == residual(cells.MinGRU(8), 2)
    assert networks.label("residual_mingru") == "residual MinGRU"
    assert networks.causal("residual_mingru")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ResidualBlock(GRU(H)), TypeError, r"write RNN\(GRU"),
        (lambda: ResidualStack(RNN(GRU(H)), 4), TypeError, "layers must be a list"),
        (lambda: ResidualStack([], 4).init(KEY, XS), ValueError, "at least one layer"),
        (lambda: residual(GRU(H), 0), ValueError, "num_layers must be"),
        (
            lambda: residual(GRU(H), 1).init(
                KEY, XS, mask=jnp.ones((B, T), bool), masked_output="last"
            ),
            ValueError,
            "masked_output must be numbers",
        ),
        (
            lambda: residual(GRU(H), 2).init(KEY, XS, initial_carry=(None,)),
            ValueError,
            "an entry for each of 2 layers",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, error, message, without_type_checks):
    with pytest.raises(error, match=message):
        make()
