"""The fast path of gated cells against a plain scan: values, gradients, and what it refuses."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from process_memory import bound_memory
from slow import in_turn

import rnnjax
from rnnjax import GRU, LSTM, Elman, training
from rnnjax.cells import Gated, GRUCarry, identity
from rnnjax.recurrence import activations as halves

pytestmark = pytest.mark.usefixtures("small_chunks")

KEY = jax.random.key(0)
D, H = 3, 5


class PeepholeParams(NamedTuple):
    input_kernel: Any
    recurrent_kernel: Any
    bias: Any
    peephole: Any


@dataclasses.dataclass(frozen=True)
class Peephole(Gated):
    """A cell of a user's: elementwise parameters of its own, an exponential, u and v apart."""

    gate_names = ("a", "b")

    def init(self, key, input_size):
        return PeepholeParams(*self.init_blocks(key, input_size), jnp.full(self.features, 0.3))

    def initial_carry(self, batch_shape):
        return GRUCarry(jnp.zeros((*batch_shape, self.features)))

    def gates(self, params, carry, u, v):
        a = jnp.exp(-((u[0] + v[0] + params.peephole * carry.h) ** 2))
        return GRUCarry(a * jnp.sin(u[1]) * v[1] + (1 - a) * carry.h)


CELLS = {
    "elman": Elman(H),
    "relu": Elman(H, activation_fn=jax.nn.relu),
    "linear": Elman(H, activation_fn=identity),
    "lstm": LSTM(H),
    "gru": GRU(H),
    "peephole": Peephole(H),
}


def plain(cell, params, xs, carry, seq_lengths=None, reverse=False):
    """Return `(final, outputs, carries)` by `lax.scan` and `jnp.where`, JAX's own derivatives."""
    valid = jnp.arange(xs.shape[0])[:, None] < (xs.shape[0] if seq_lengths is None else seq_lengths)

    def step(carry, now):
        u, valid = now
        new = cell.step(params, carry, u)
        new = jax.tree.map(lambda a, b: jnp.where(valid[:, None], a, b), new, carry)
        return new, (jnp.where(valid[:, None], cell.output(new), 0), new)

    us = cell.project(params, xs)
    final, (outputs, carries) = lax.scan(step, carry, (us, valid), reverse=reverse)
    return final, outputs, carries


def problem(cell, total, batch=2, dtype=jnp.float64, seed=0):
    rng = np.random.default_rng(seed)

    def normal(shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    params = jax.tree.map(lambda p: p.astype(dtype) + 0.1 * normal(p.shape), cell.init(KEY, D))
    carry = jax.tree.map(lambda c: 0.5 * normal(c.shape), cell.initial_carry((batch,)))
    return params, normal((total, batch, D)), carry


def gradients(run, params, xs, carry):
    """Return values and gradients of a loss that depends on every result, each with a weight."""

    def loss(*arguments):
        found = jax.tree.leaves(run(*arguments))
        return sum(jnp.sum(a * jnp.cos(jnp.arange(a.size)).reshape(a.shape)) for a in found)

    return jax.value_and_grad(loss, (0, 1, 2))(params, xs, carry)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(CELLS)),
    st.integers(1, 10),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 1, 3]),
    st.integers(0, 1000),
)
def test_gradients_are_those_of_a_plain_scan(name, total, batch, ragged, reverse, every, seed):
    with jax.enable_x64(True):
        cell = CELLS[name]
        args = problem(cell, total, batch, seed=seed)
        lengths = np.random.default_rng(seed).integers(0, total + 1, batch) if ragged else None
        options = {"seq_lengths": lengths, "reverse": reverse}
        run = functools.partial(rnnjax.unroll, cell, **options, checkpoint_every=every)
        got = gradients(functools.partial(run, return_carries=True), *args)
        want = gradients(functools.partial(plain, cell, **options), *args)
        assert oracles.relative_error(got, want) < 1e-11
        bound_memory()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every"), in_turn(CELLS.keys(), [None, 1], quick=0))
def test_float32_and_long(name, every):
    cell = CELLS[name]
    params, xs, carry = problem(cell, 101, dtype=jnp.float32)
    params = params._replace(recurrent_kernel=0.5 * params.recurrent_kernel)
    run = functools.partial(rnnjax.unroll, cell, checkpoint_every=every, return_carries=True)
    got = gradients(run, params, xs, carry)
    want = gradients(functools.partial(plain, cell), params, xs, carry)
    assert oracles.relative_error(got, want) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_bfloat16_matmuls_keep_a_float32_carry_and_float32_sums(name):
    """Within 2 % of float32: eight bits of mantissa, 2^-8 = .4 % a rounding, over 50 steps."""
    cell = CELLS[name]
    low = dataclasses.replace(cell, dtype=jnp.bfloat16)
    params, xs, carry = problem(cell, 50, 4, jnp.float32)
    params = params._replace(recurrent_kernel=0.5 * params.recurrent_kernel)
    value, got = gradients(functools.partial(rnnjax.unroll, low), params, xs, carry)
    _, want = gradients(functools.partial(rnnjax.unroll, cell), params, xs, carry)
    assert {a.dtype for a in jax.tree.leaves((value, got))} == {jnp.dtype("float32")}
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert oracles.relative_error(a, b) < 0.02
    final, outputs = rnnjax.unroll(low, params, xs, carry)
    assert outputs.dtype == final.h.dtype == jnp.float32


@pytest.mark.slow
def test_a_population_of_weights_and_one_of_inputs(x64):
    cell = CELLS["gru"]
    many = [problem(cell, 6, seed=seed) for seed in range(3)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    run = functools.partial(rnnjax.unroll, cell)
    got = jax.vmap(functools.partial(gradients, run))(*together)
    for i, one in enumerate(many):
        want = gradients(lambda *a: plain(cell, *a)[:2], *one)
        assert oracles.relative_error(jax.tree.map(lambda a, i=i: a[i], got), want) < 1e-11

    params, xs, carry = many[0]
    streams = jnp.stack([xs, 2 * xs])

    def shared(run):  # the derivative of a map: the weights have no axis of their own
        def loss(params):
            return jnp.sum(jax.vmap(lambda xs: run(params, xs, carry)[1])(streams) ** 2)

        return jax.grad(loss)(params)

    assert oracles.relative_error(shared(run), shared(functools.partial(plain, cell))) < 1e-11


TWICE = {
    "hessian": jax.hessian,
    "reverse over reverse": lambda f: jax.jacrev(jax.grad(f)),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "reverse over forward": lambda f: jax.jacrev(jax.jacfwd(f)),
    "hessian with checkpoints": lambda f: jax.hessian(jax.checkpoint(f)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("how", "name"), in_turn(TWICE.keys(), ["lstm", "gru"], quick=0))
def test_second_derivatives(name, how, x64):
    cell = CELLS[name]
    params, xs, carry = problem(cell, 6, 1)

    def loss(run, bias):
        outputs = run(cell, params._replace(bias=bias), xs, carry)[1]
        return jnp.sum(outputs**2) + jnp.sum(outputs[-1] ** 3)

    found, want = (
        jax.jit(TWICE[how](functools.partial(loss, run)))(params.bias)
        for run in (rnnjax.unroll, plain)
    )
    assert oracles.relative_error(found, want) < 1e-11


@pytest.mark.slow
def test_forward_mode(x64):
    cell = CELLS["lstm"]
    args = problem(cell, 6)
    tangents = problem(cell, 6, seed=1)
    for run in (
        lambda f: jax.jvp(f, args, tangents),
        lambda f: jax.linearize(f, *args)[1](*tangents),
    ):
        got, want = (
            run(functools.partial(unroll, cell, seq_lengths=jnp.array([6, 2])))
            for unroll in (rnnjax.unroll, lambda *a, **o: plain(*a, **o)[:2])
        )
        assert oracles.relative_error(got, want) < 1e-12


def test_what_is_kept_is_what_is_needed():
    sizes = {}
    for name, cell in CELLS.items():
        params, carry = cell.init(KEY, D), cell.initial_carry((2,))
        u = cell.split(jnp.zeros((2, H * len(cell.gate_names))))
        weights = cell.elementwise(params)
        half = halves.cut(
            lambda carry, u, v, w, _, cell=cell: cell.gates(w, carry, tuple(u), v),
            carry,
            list(u),
            u,
            weights,
            (),
        )
        sizes[name] = len(half.kept), half.same
    assert sizes["elman"] == (0, (0,))  # h' is stored anyway
    assert sizes["linear"] == (0, (0,))
    assert sizes["relu"] == (1, (0,))
    assert sizes["lstm"] == (4, (0, 1, 2, 3))  # i, f, g, o; tanh(c') is computed again
    assert sizes["gru"] == (4, (0, 1, None))  # r, z, n, and v_n for the slope by r


def dots_and_carries(function, *args):
    """Return, for each loop in a jaxpr, its matmuls and the shapes it carries."""
    loops = []

    def visit(jaxpr, loop):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general" and loop is not None:
                loop["dots"] += 1
            inner = loop
            if equation.primitive.name == "pull_back":  # seen through by some versions of JAX
                apply = functools.partial(equation.primitive.impl, **equation.params)
                visit(jax.make_jaxpr(apply)(*(v.aval for v in equation.invars)).jaxpr, loop)
            if equation.primitive.name in ("scan", "while"):
                inner = {"dots": 0, "carries": [v.aval.shape for v in equation.outvars]}
                loops.append(inner)
            for value in equation.params.values():
                for sub in value if isinstance(value, (tuple, list)) else [value]:
                    sub = getattr(sub, "jaxpr", sub)
                    if hasattr(sub, "eqns"):
                        visit(sub, inner)

    visit(jax.make_jaxpr(function)(*args).jaxpr, None)
    return loops


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_one_matmul_a_step_and_no_weights_in_its_loop(name):
    cell = CELLS[name]
    args = problem(cell, 4, dtype=jnp.float32)  # one chunk
    gradient = jax.grad(lambda *a: jnp.sum(rnnjax.unroll(cell, *a)[1] ** 2), (0, 1))
    loops = [loop for loop in dots_and_carries(gradient, *args) if loop["dots"]]
    assert [loop["dots"] for loop in loops] == [1, 1]
    kernel = args[0].recurrent_kernel.shape
    assert all(kernel not in loop["carries"] for loop in loops)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 1}, {"clip_adjoints": 0.1}])
@pytest.mark.parametrize("batch", [16, 17])  # split over two devices, and not to be split
def test_a_batch_split_over_devices(options, batch):
    cell = CELLS["lstm"]
    args = problem(cell, 7, batch, jnp.float32)
    lengths = jnp.arange(batch) % 8
    run = functools.partial(rnnjax.unroll, cell, seq_lengths=lengths, **options)
    want = gradients(run, *args)
    with jax.set_mesh(training.batch_mesh()):
        got = jax.jit(functools.partial(gradients, run))(*args)
        text = jax.jit(functools.partial(gradients, run)).lower(*args).compile().as_text()
    assert oracles.relative_error(got, want) < 1e-5
    assert ("all-reduce" in text) == (batch == 16)


@pytest.mark.slow
def test_a_member_alone_splits_its_batch_over_the_devices():
    cell = CELLS["gru"]
    params, xs, carry = problem(cell, 7, 16, jnp.float32)
    gradient = jax.grad(lambda p, xs: jnp.sum(rnnjax.unroll(cell, p, xs, carry)[1] ** 2))
    one = jax.tree.map(lambda a: a[None], (params, xs))
    got = training.over_population(gradient)(*one)
    want = gradient(params, xs)
    assert oracles.relative_error(jax.tree.map(lambda a: a[0], got), want) < 1e-5


@pytest.mark.slow
def test_lean_memory_and_default_memory():
    cell = LSTM(64)
    params = jax.eval_shape(lambda: cell.init(KEY, 8))
    xs = jax.ShapeDtypeStruct((512, 8, 8), jnp.float32)

    def temporaries(**options):
        gradient = jax.grad(lambda p, xs: jnp.sum(rnnjax.unroll(cell, p, xs, **options)[1] ** 2))
        compiled = jax.jit(gradient).lower(params, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept = 4 * 512 * 8 * 64 * 4  # i, f, g, o
    assert temporaries() - temporaries(checkpoint_every=1) > 0.9 * kept


def test_checkpoints_of_one_step_drop_the_tape_of_a_cell_that_is_not_served():
    class Own(LSTM):
        def step(self, params, carry, u):
            return self.gates(self.elementwise(params), carry, u, self.recur(params, carry, u))

    cell = Own(64)
    params = jax.eval_shape(lambda: cell.init(KEY, 8))
    xs = jax.ShapeDtypeStruct((512, 8, 8), jnp.float32)

    def temporaries(**options):
        gradient = jax.grad(lambda p, xs: jnp.sum(rnnjax.unroll(cell, p, xs, **options)[0].h))
        compiled = jax.jit(gradient).lower(params, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(checkpoint_every=1) < 0.7 * temporaries()
