"""The convolutional LSTM against Flax, a NumPy loop and closed forms; in layers and diagnostics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from slow import slow_but_for

import rnnjax
from rnnjax import LSTM, diagnostics, layers
from rnnjax.cells import ConvLSTM, ConvLSTMCarry, GatedParams, LSTMCarry, Zoneout
from rnnjax.cells.initializers import Chrono, Identity, Orthogonal
from rnnjax.diagnostics import log_gradient_by_layer
from rnnjax.layers import RNN, Bidirectional, Stack
from rnnjax.testing import check_cell

T, B, D, H = 4, 2, 3, 2
KEY = jax.random.key(0)
LENGTHS = np.array([2, 4])


def drawn(cell, dtype=jnp.float64):
    """Parameters with noise on every entry, inputs and a carry."""
    keys = iter(jax.random.split(KEY, 9))

    def noisy(leaf):
        return leaf.astype(dtype) + 0.3 * jax.random.normal(next(keys), leaf.shape, dtype)

    params = jax.tree.map(noisy, cell.init(KEY, D))
    xs = jax.random.normal(next(keys), (T, B, *cell.input_shape(D)), dtype)
    return params, xs, jax.tree.map(noisy, cell.initial_carry((B,)))


def weighted(tree):
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])
    return jnp.sum(flat * jnp.cos(jnp.arange(flat.size)))


def convolved(x, kernel):
    """Return one image convolved with a kernel, as its definition says, place by place."""
    *taps, _, channels = kernel.shape
    out = np.zeros((*x.shape[:-1], channels))
    for place in np.ndindex(*x.shape[:-1]):
        for tap in np.ndindex(*taps):
            source = [p + k - (size - 1) // 2 for p, k, size in zip(place, tap, taps, strict=True)]
            if all(0 <= s < n for s, n in zip(source, x.shape, strict=False)):
                out[place] += x[tuple(source)] @ kernel[tap]
    return out


def by_hand(params, xs, carry):
    """Return final carry and outputs of a loop over examples and steps in NumPy."""
    w, u, b = map(np.asarray, params)
    outputs, finals = [], []
    for n in range(xs.shape[1]):
        c, h = np.asarray(carry.c[n]), np.asarray(carry.h[n])
        outputs.append([])
        for x in np.asarray(xs[:, n]):
            packed = convolved(x, w) + convolved(h, u) + b
            i, f, o = (1 / (1 + np.exp(-np.split(packed, 4, -1)[k])) for k in (0, 1, 3))
            c = f * c + i * np.tanh(np.split(packed, 4, -1)[2])
            h = o * np.tanh(c)
            outputs[-1].append(h)
        finals.append((c, h))
    c, h = map(np.stack, zip(*finals, strict=True))
    return ConvLSTMCarry(c, h), np.stack(outputs, axis=1)


IMAGES = {"1d": ((5,), 3), "even": ((5,), 4), "2d": ((4, 3), (3, 2)), "3d": ((2, 3, 2), (1, 3, 2))}


@pytest.mark.parametrize("image", slow_but_for("2d", IMAGES))
def test_values_are_those_of_a_numpy_loop(image, x64):
    shape, kernel = image
    cell = ConvLSTM(H, shape, kernel_size=kernel, param_dtype=jnp.float64)
    params, xs, carry = drawn(cell)
    got = rnnjax.unroll(cell, params, xs, carry)
    assert got[1].shape == (T, B, *shape, H)
    assert oracles.relative_error(got, by_hand(params, xs, carry)) < 1e-13


@pytest.mark.parametrize("kernel", slow_but_for("(3, 2)", {"(3, 2)": (3, 2), "(4,)": (4,)}))
def test_outputs_and_gradients_equal_flax(kernel, x64):
    """Flax has the order i, g, f, o, two biases, and adds one to f at every step."""
    shape = (4, 3)[: len(kernel)]
    cell = ConvLSTM(H, shape, kernel_size=kernel, param_dtype=jnp.float64)
    theirs = nn.ConvLSTMCell(H, kernel, dtype=jnp.float64, param_dtype=jnp.float64)
    given = drawn(cell)

    def to_flax(params):
        def order(a):
            i, f, g, o = jnp.split(a, 4, axis=-1)
            return jnp.concatenate([i, g, f, o], axis=-1)

        shift = jnp.repeat(jnp.array([0.0, 1, 0, 0]), H)
        w, u, b = order(params.input_kernel), order(params.recurrent_kernel), params.bias - shift
        ih = {"kernel": w, "bias": order(b) / 3}
        return {"params": {"ih": ih, "hh": {"kernel": u, "bias": order(b) * 2 / 3}}}

    def ours(params, xs, carry):
        found = rnnjax.unroll(cell, params, xs, carry)
        return weighted(found), found

    def loop(params, xs, carry):
        state, outputs = tuple(carry), []
        for x in xs:
            state, y = theirs.apply(to_flax(params), state, x)
            outputs.append(y)
        found = ConvLSTMCarry(*state), jnp.stack(outputs)
        return weighted(found), found

    got = jax.jit(jax.grad(ours, (0, 1, 2), has_aux=True))(*given)
    want = jax.jit(jax.grad(loop, (0, 1, 2), has_aux=True))(*given)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert oracles.relative_error(a, b) < 1e-12


@pytest.mark.slow
def test_with_a_kernel_of_one_every_place_is_an_lstm(x64):
    cell = ConvLSTM(H, (3, 4), kernel_size=1, param_dtype=jnp.float64)
    lstm = LSTM(H, param_dtype=jnp.float64)

    def whole(params, xs, carry):
        return weighted(rnnjax.unroll(cell, params, xs, carry))

    def each(params, xs, carry):
        w, u, b = params
        flat = GatedParams(w[0, 0], u[0, 0], b)
        return weighted(rnnjax.unroll(lstm, flat, xs, LSTMCarry(*carry)))

    given = drawn(cell)
    got, want = (jax.jit(jax.value_and_grad(f, (0, 1, 2)))(*given) for f in (whole, each))
    assert oracles.relative_error(got, want) < 1e-13


@pytest.mark.slow
def test_the_gradient_spreads_by_half_a_kernel_a_step(x64):
    """dL/ds_{T-k} of the last output at one place reaches k (K - 1) / 2 places and no further."""
    cell = ConvLSTM(H, (11, 9), kernel_size=(3, 1), param_dtype=jnp.float64)
    params, xs, _ = drawn(cell)
    adjoints = diagnostics.adjoints(cell, params, xs, lambda ys: ys[-1, :, 5, 4].sum())
    for lag in range(1, T + 1):
        reached = np.abs(adjoints.h[T - lag]).sum((0, 3)) > 0
        want = np.zeros((11, 9), bool)
        want[5 - lag : 5 + lag + 1, 4] = True
        np.testing.assert_array_equal(reached, want)


def nets(cell):
    return {
        "rnn": RNN(cell),
        "reverse": RNN(cell, reverse=True),
        "bidirectional": layers.bidirectional(cell),
        "deep": Stack([RNN(cell), Bidirectional(RNN(cell), RNN(cell))]),
    }


def directly(name, cell, params, xs, lengths):
    """The same nets put together of `unroll`, which `RNN` must equal; time-major."""

    def run(part, xs, **options):
        ready = RNN(cell).cell_params(part)
        return rnnjax.unroll(cell, ready, xs, seq_lengths=lengths, **options)[1]

    def both(part, xs):
        ahead = run(part["forward_rnn"], xs)
        return jnp.concatenate([ahead, run(part["backward_rnn"], xs, reverse=True)], -1)

    if name == "deep":
        return both(params["layers_1"], run(params["layers_0"], xs))
    if name == "bidirectional":
        return both(params, xs)
    return run(params, xs, reverse=name == "reverse")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", slow_but_for("reverse", ["rnn", "reverse", "bidirectional", "deep"])
)
def test_layers_are_compositions_of_unroll(name):
    cell = ConvLSTM(H, (4, 3))
    net, xs = nets(cell)[name], drawn(cell, jnp.float32)[1]
    variables = net.init(KEY, jnp.moveaxis(xs, 0, 1))
    want = directly(name, cell, variables["params"], xs, LENGTHS)
    options = {"keep_order": True} if name == "reverse" else {}
    for time_major in (True, False):
        given = xs if time_major else jnp.moveaxis(xs, 0, 1)
        got = net.apply(variables, given, seq_lengths=LENGTHS, time_major=time_major, **options)
        got = got if time_major else jnp.moveaxis(got, 1, 0)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    if name == "reverse":
        got = net.apply(variables, xs, seq_lengths=LENGTHS, time_major=True)
        flipped = np.stack(
            [np.concatenate([want[:n, b][::-1], want[n:, b]]) for b, n in enumerate(LENGTHS)], 1
        )
        np.testing.assert_allclose(got, flipped, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_layer_takes_any_batch_and_learns_its_initial_carry():
    cell = ConvLSTM(H, (4, 3))
    net = RNN(cell, initial_carry_init=jax.nn.initializers.normal(), return_carry=True)
    xs = jax.random.normal(KEY, (2, 3, T, 4, 3, D))
    variables = net.init(KEY, xs)
    assert [a.shape for a in variables["params"]["initial_carry"].values()] == [(4, 3, H)] * 2
    carry, ys = net.apply(variables, xs)
    assert ys.shape == (2, 3, T, 4, 3, H) and carry.c.shape == (2, 3, 4, 3, H)
    alone = net.apply(variables, xs[1, 2])[1]
    np.testing.assert_allclose(ys[1, 2], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_gradient_of_every_layer_is_found(x64):
    cell = ConvLSTM(H, (4, 3), param_dtype=jnp.float64)
    net, xs = Stack([RNN(cell), RNN(cell)]), jnp.moveaxis(drawn(cell)[1], 0, 1)
    variables = net.init(KEY, xs)
    profiles = log_gradient_by_layer(net, variables, lambda ys: (ys[:, -1] ** 2).sum(), xs)
    top, below = variables["params"]["layers_1"], variables["params"]["layers_0"]
    middle = RNN(cell).apply({"params": below}, xs)
    own = RNN(cell).cell_params(top)
    adjoints = diagnostics.adjoints(
        cell, own, jnp.moveaxis(middle, 1, 0), lambda ys: (ys[-1] ** 2).sum()
    )
    squares = sum((a[:T] ** 2).sum((2, 3, 4)) for a in adjoints)
    np.testing.assert_allclose(profiles["layers_1/carry"], np.log(squares) / 2, rtol=1e-9)
    assert profiles["layers_0/carry"].shape == (T, B)


@pytest.mark.slow
def test_gates_of_images_are_counted_at_every_place():
    cell = ConvLSTM(H, (4, 3))
    params, xs, carry = drawn(cell, jnp.float32)
    values = diagnostics.gates(cell, params, xs, carry)
    assert {*values} == {"i", "f", "o"} and values["f"].shape == (T, B, 4, 3, H)
    found = diagnostics.gate_statistics(values["f"], seq_lengths=LENGTHS)
    valid = np.arange(T)[:, None] < LENGTHS
    np.testing.assert_allclose(found.mean, values["f"][valid].mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_zoneout_keeps_each_entry_of_an_image_at_random():
    cell = Zoneout(ConvLSTM(H, (4, 3)), ConvLSTMCarry(c=0.5, h=0.0))
    params, xs, carry = drawn(cell, jnp.float32)
    noisy = cell.with_noise(KEY, xs)
    assert noisy.noise.shape == (T, B, 2 * 4 * 3 * H)
    *_, after = rnnjax.unroll(cell, params, noisy, carry, return_carries=True)
    before = jnp.concatenate([carry.c[None], after.c[:-1]])
    kept = noisy.noise[..., : 4 * 3 * H].reshape(before.shape)
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_array_equal((after.c == before), kept)
    net = RNN(cell)
    variables = {"params": {"cell": params._asdict()}}
    ys = net.apply(variables, jnp.moveaxis(xs, 0, 1), rngs={"dropout": KEY})
    assert ys.shape == (B, T, 4, 3, H)


@pytest.mark.slow
def test_init_draws_what_the_docstring_says():
    cell = ConvLSTM(8, (4, 3), kernel_size=(3, 2), forget_bias=2.0)
    params = cell.init(KEY, 200)
    assert [a.shape for a in params] == [(3, 2, 200, 32), (3, 2, 8, 32), (32,)]
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 2.0, 0.0, 0.0], 8))
    assert abs(float(params.input_kernel.std()) * np.sqrt(1200) - 1) < 0.02
    for block in np.split(np.asarray(params.recurrent_kernel).reshape(48, 32), 4, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(8), atol=1e-6)
    i, f, *_ = np.split(ConvLSTM(8, (2,), forget_bias=Chrono(9.0)).init(KEY, D).bias, 4)
    np.testing.assert_array_equal(i, -f)
    by_gate = (Identity(0.0), Identity(0.0), Identity(1.0), Identity(0.0))
    kernel = ConvLSTM(2, (2,), kernel_init=by_gate).init(KEY, 1).input_kernel
    np.testing.assert_array_equal(np.abs(kernel).sum((0, 1)), [0, 0, 0, 0, 1, 1, 0, 0])


def test_cells_that_differ_in_initialisers_share_a_program():
    cell = ConvLSTM(H, [4, 3], recurrent_kernel_init=Orthogonal(2.0), forget_bias=3.0)
    assert cell.without_initialisers() == ConvLSTM(H, (4, 3))
    assert cell.output_size == H and cell.input_shape(7) == (4, 3, 7)


BAD = {
    "features": (lambda: ConvLSTM(0, (4, 3)), "features must be a positive integer, got 0"),
    "no shape": (
        lambda: ConvLSTM(H, ()),
        "spatial_shape must be a tuple, (height, width) for images; got ()",
    ),
    "an empty axis": (
        lambda: ConvLSTM(H, (4, 0)),
        "each entry of spatial_shape must be a positive integer, got 0",
    ),
    "kernels": (
        lambda: ConvLSTM(H, (4, 3), kernel_size=(3, 3, 3)),
        "kernel_size must be one number or 2, one for each spatial axis; got (3, 3, 3)",
    ),
    "an empty kernel": (
        lambda: ConvLSTM(H, (4, 3), kernel_size=0),
        "each entry of kernel_size must be a positive integer, got 0",
    ),
    "initialisers": (
        lambda: ConvLSTM(H, (4, 3), kernel_init=(Orthogonal(),) * 3),
        "kernel_init must be one initialiser or 4, one for each of the gates i, f, g, o; got a "
        "tuple of 3",
    ),
    "another image": (
        lambda: rnnjax.unroll(
            ConvLSTM(H, (4, 3)), ConvLSTM(H, (4, 3)).init(KEY, D), jnp.zeros((T, B, 3, 4, D))
        ),
        "xs must have shape [T, *batch, 4, 3, D], at least 4 axes; got [(4, 2, 3, 4, 3)]",
    ),
    "no image": (
        lambda: rnnjax.unroll(
            ConvLSTM(H, (4, 3)), ConvLSTM(H, (4, 3)).init(KEY, D), jnp.zeros((4, 3, D))
        ),
        "xs must have shape [T, *batch, 4, 3, D], at least 4 axes; got [(4, 3, 3)]",
    ),
    "channels": (
        lambda: rnnjax.unroll(
            ConvLSTM(H, (4, 3)), ConvLSTM(H, (4, 3)).init(KEY, D), jnp.zeros((T, 4, 3, D + 1))
        ),
        "inputs must have 3 features, as the parameters have; got shape (4, 4, 3, 4)",
    ),
    "channels of project": (
        lambda: ConvLSTM(H, (4, 3)).project(
            ConvLSTM(H, (4, 3)).init(KEY, D), jnp.zeros((4, 3, D + 1))
        ),
        "inputs must have shape [..., 4, 3, 3], got (4, 3, 4)",
    ),
    "a layer without images": (
        lambda: RNN(ConvLSTM(H, (4, 3))).init(KEY, jnp.zeros((B, T, D))),
        "inputs must have an axis for time and 3 for features, got shape (2, 4, 3)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case):
    make, message = BAD[case]
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.slow
def test_it_passes_check_cell():
    check_cell(ConvLSTM(2, (3, 2), kernel_size=(2, 1), dtype=jnp.bfloat16), 2)
