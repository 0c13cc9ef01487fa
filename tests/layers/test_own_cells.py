"""Cells that the library does not know, in layers: constraints, complex and integer carries."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import weighted_sum
from jax.scipy.linalg import expm
from slow import in_turn

import rnnjax
from rnnjax import checkpoint, diagnostics, layers, models
from rnnjax.layers import RNN, Bidirectional, LinearHead, Stack

KEY = jax.random.key(0)
B, T, D, H = 3, 5, 3, 4
XS = jax.random.normal(KEY, (B, T, D))
LENGTHS = jnp.array([T, 2, 0])


class Oscillators(NamedTuple):
    """Positions and velocities."""

    y: Any
    z: Any


@dataclasses.dataclass(frozen=True)
class CoRNN(rnnjax.Cell):
    """z' = z + dt (tanh(W y + V z + U x) - g y - e z), y' = y + dt z': Rusch, Mishra 2021."""

    features: int = H
    dt: float = 0.3

    def init(self, key, input_size):
        keys = jax.random.split(key, 3)
        sizes = {"w": self.features, "v": self.features, "u": input_size}
        return {
            name: jax.random.normal(k, (size, self.features)) / 2
            for k, (name, size) in zip(keys, sizes.items(), strict=True)
        }

    def initial_carry(self, batch_shape):
        return Oscillators(*jnp.zeros((2, *batch_shape, self.features)))

    def project(self, ready, x):
        return x @ ready["u"]

    def step(self, ready, carry, u):
        force = jnp.tanh(carry.y @ ready["w"] + carry.z @ ready["v"] + u) - carry.y - 0.5 * carry.z
        z = carry.z + self.dt * force
        return Oscillators(carry.y + self.dt * z, z)

    def output(self, carry):
        return carry.y


class Rotated(NamedTuple):
    """A state, and how many steps it has read."""

    h: Any
    steps: Any


@dataclasses.dataclass(frozen=True)
class Orthogonal(rnnjax.Cell):
    """h' = tanh(h U + x W), U = expm(A - A^T), with a counter of steps in its carry."""

    size: int = H

    def init(self, key, input_size):
        a, w = jax.random.split(key)
        return {
            "a": jax.random.normal(a, (self.size, self.size)),
            "w": jax.random.normal(w, (input_size, self.size)),
        }

    def prepare(self, params):
        return {"u": expm(params["a"] - params["a"].T), "w": params["w"]}

    def initial_carry(self, batch_shape):
        return Rotated(jnp.zeros((*batch_shape, self.size)), jnp.full(batch_shape, 2, jnp.int32))

    def project(self, ready, x):
        return x @ ready["w"]

    def step(self, ready, carry, u):
        return Rotated(jnp.tanh(carry.h @ ready["u"] + u), carry.steps + 1)

    def output(self, carry):
        return carry.h


@dataclasses.dataclass(frozen=True)
class Diagonal(rnnjax.Cell):
    """s' = exp(-exp(nu) + i theta) s + x B, read out as real and imaginary part."""

    modes: int = H

    def init(self, key, input_size):
        nu, theta, b = jax.random.split(key, 3)
        return {
            "nu": jax.random.normal(nu, (self.modes,)) - 1,
            "theta": jax.random.normal(theta, (self.modes,)),
            "b": jax.random.normal(b, (2, input_size, self.modes)),
        }

    def prepare(self, params):
        factor = jnp.exp(-jnp.exp(params["nu"]) + 1j * params["theta"])
        return {"factor": factor, "b": params["b"][0] + 1j * params["b"][1]}

    def initial_carry(self, batch_shape):
        return {"s": jnp.zeros((*batch_shape, self.modes), jnp.complex64)}

    def project(self, ready, x):
        return x @ ready["b"]

    def step(self, ready, carry, u):
        return {"s": ready["factor"] * carry["s"] + u}

    def output(self, carry):
        return jnp.concatenate([carry["s"].real, carry["s"].imag], -1)


CELLS = {"cornn": CoRNN(), "orthogonal": Orthogonal(), "diagonal": Diagonal()}


def by_hand(cell, params, xs, carry=None, reverse=False):
    """Run each sequence by itself, step by step, to its own end: outputs are zero after it."""
    finals, rows = [], []
    for b, length in enumerate(LENGTHS.tolist()):
        ready = cell.prepare(params)
        state = (
            cell.initial_carry(()) if carry is None else jax.tree.map(lambda s, b=b: s[b], carry)
        )
        size = cell.output(state).shape[-1]
        row = [jnp.zeros(size)] * T
        for t in range(length)[::-1] if reverse else range(length):
            state = cell.step(ready, state, cell.project(ready, xs[b, t]))
            row[t] = cell.output(state)
        finals.append(state)
        rows.append(jnp.stack(row))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *finals), jnp.stack(rows)


def in_layers(cell):
    """Return layers of the cell, and the same by hand as functions of parameters and inputs."""
    own = RNN(cell).cell_params

    def both(params, xs):
        ahead = by_hand(cell, own(params["forward_rnn"]), xs)
        behind = by_hand(cell, own(params["backward_rnn"]), xs, reverse=True)
        return (ahead[0], behind[0]), jnp.concatenate([ahead[1], behind[1]], -1)

    def deep(params, xs):
        first, ys = by_hand(cell, own(params["layers_0"]), xs)
        second, zs = by_hand(cell, own(params["layers_1"]), ys)
        return (first, second), zs

    return {
        "rnn": (RNN(cell), lambda params, xs: by_hand(cell, own(params), xs)),
        "bidirectional": (Bidirectional(RNN(cell), RNN(cell)), both),
        "deep": (Stack([RNN(cell), RNN(cell)]), deep),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "which"), in_turn([*CELLS], ["rnn", "bidirectional", "deep"]))
def test_values_and_gradients_are_those_of_a_python_loop(name, which):
    layer, hand = in_layers(CELLS[name])[which]
    params = layer.init(KEY, XS)["params"]

    def applied(params, xs):
        return layer.apply({"params": params}, xs, seq_lengths=LENGTHS, return_carry=True)

    def everything(run):
        def loss(params, xs):
            carry, ys = run(params, xs)
            parts = [part for leaf in jax.tree.leaves(carry) for part in (leaf.real, leaf.imag)]
            return weighted_sum((parts, ys)), (carry, ys)

        gradients, (carry, ys) = jax.grad(loss, (0, 1), has_aux=True)(params, XS)
        return jax.tree.leaves((carry, ys, gradients))

    got, want = everything(applied), everything(hand)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_stream_in_parts_equals_the_whole(name):
    layer = Stack([RNN(CELLS[name]), RNN(CELLS[name])])
    variables = layer.init(KEY, XS)
    whole, ys = layer.apply(variables, XS, return_carry=True)
    carry, parts = None, []
    for start, end in ((0, 1), (1, 3), (3, T)):
        options = {"initial_carry": carry, "return_carry": True}
        carry, part = layer.apply(variables, XS[:, start:end], **options)
        parts.append(part)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), ys, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(carry), jax.tree.leaves(whole), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_carries_come_back_from_a_checkpoint(name, tmp_path):
    layer = Bidirectional(RNN(CELLS[name]), RNN(CELLS[name]))
    carry, _ = layer.apply(layer.init(KEY, XS), XS, return_carry=True)
    checkpoint.save(tmp_path / "carry", carry)
    back = checkpoint.load(tmp_path / "carry", carry)
    assert jax.tree.structure(back) == jax.tree.structure(carry)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(carry), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_learned_initial_carry_keeps_types_and_learns_what_is_not_an_integer(name):
    cell = CELLS[name]
    layer = RNN(cell, initial_carry_init=jax.nn.initializers.normal(1.0))
    params = layer.init(KEY, XS)["params"]
    own = {jax.tree_util.keystr(p, simple=True) for p, leaf in _leaves(cell) if _learned(leaf)}
    assert set(params["initial_carry"]) == own
    start = jax.tree_util.tree_map_with_path(
        lambda p, leaf: jnp.broadcast_to(
            params["initial_carry"].get(jax.tree_util.keystr(p, simple=True), leaf),
            (B, *leaf.shape),
        ),
        cell.initial_carry(()),
    )
    got = layer.apply({"params": params}, XS, seq_lengths=LENGTHS)
    _, want = by_hand(cell, layer.cell_params(params), XS, start)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda p: layer.apply({"params": p}, XS).sum())(params)
    assert all(jnp.abs(g).max() > 1e-3 for g in gradient["initial_carry"].values())


def _leaves(cell):
    return jax.tree_util.tree_leaves_with_path(cell.initial_carry(()))


def _learned(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_gradients_by_layer_are_those_of_the_carries_that_enter(name):
    cell = CELLS[name]
    layer = Stack([RNN(cell), RNN(cell)])
    variables = layer.init(KEY, XS)
    found = diagnostics.log_gradient_by_layer(layer, variables, lambda ys: ys[:, -1].sum(), XS)
    assert set(found) == {"inputs", "layers_0/carry", "layers_1/carry"}
    ys = RNN(cell).apply({"params": variables["params"]["layers_0"]}, XS)
    top = RNN(cell).cell_params(variables["params"]["layers_1"])
    carries = [cell.initial_carry((B,))]
    ready = cell.prepare(top)
    for t in range(T):
        carries.append(cell.step(ready, carries[-1], cell.project(ready, ys[:, t])))

    for t in range(T):

        def loss(learned, t=t):
            leaves, structure = jax.tree.flatten(carries[t])
            given = iter(learned)
            state = structure.unflatten([next(given) if _learned(s) else s for s in leaves])
            for later in range(t, T):
                state = cell.step(ready, state, cell.project(ready, ys[:, later]))
            return cell.output(state).sum()

        entering = [s for s in jax.tree.leaves(carries[t]) if _learned(s)]
        squares = sum((jnp.abs(g) ** 2).sum(-1) for g in jax.grad(loss)(entering))
        want = 0.5 * np.log(squares)
        np.testing.assert_allclose(found["layers_1/carry"][t], want, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_decoder_starts_every_part_of_its_carry_from_the_context(name):
    model = models.OneToMany(RNN(CELLS[name]), LinearHead(D))
    context = jax.random.normal(KEY, (B, 3))
    variables = model.init(KEY, context, XS)
    start = model.apply(variables, context, method="start").carry
    for leaf, own in zip(
        jax.tree.leaves(start), jax.tree.leaves(CELLS[name].initial_carry((B,))), strict=True
    ):
        assert (leaf.shape, leaf.dtype) == (own.shape, own.dtype)
        if _learned(own):
            assert (leaf.real != 0).all() and (jnp.isrealobj(leaf) or (leaf.imag != 0).all())
    outputs = model.apply(variables, context, XS)
    _, hs = rnnjax.unroll(
        CELLS[name],
        model.layer.cell_params(variables["params"]["layer"]),
        jnp.moveaxis(XS, 1, 0),
        start,
    )
    head = variables["params"]["head"]["dense"]
    want = jnp.moveaxis(hs, 0, 1) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs, want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_one_line_takes_any_cell():
    for cell in CELLS.values():
        network = layers.deep(cell, 2, bidirectional=True)
        ys = network.apply(network.init(KEY, XS), XS)
        assert ys.shape == (B, T, 2 * cell.output_size)
